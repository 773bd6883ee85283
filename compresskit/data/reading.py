"""The data that a request names, as the model at hand takes them."""

from __future__ import annotations

from dataclasses import dataclass

from compresskit.data.dataset import Dataset
from compresskit.data.limits import Limits
from compresskit.data.load import load_data
from compresskit.data.tokens import vocabulary_size
from compresskit.errors import InputError
from compresskit.models.graph import ModelGraph, Normalization, TensorSpec
from compresskit.progress import SILENT, Progress
from compresskit.requests import CompressRequest


@dataclass(frozen=True)
class Interface:
    """What a model takes and gives, as far as data have to fit it.

    Attributes:
        name: of the model, for messages.
        inputs: that are not stored.
        outputs: number of classes, or of values to regress; None: the file does not say.
        normalization, classes: what the file says of them.
        vocabulary: how many token ids the model knows; None: it takes numbers.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: int | None
    normalization: Normalization | None = None
    classes: tuple[str, ...] | None = None
    vocabulary: int | None = None


def interface(graph: ModelGraph) -> Interface:
    """What `graph` takes and gives.

    Raises:
        InputError: it has several outputs, and labels do not say which is meant.
    """
    if len(graph.outputs) != 1:
        raise InputError(f"{graph.source} has {len(graph.outputs)} outputs: --data serves models with one")
    shape = graph.outputs[0].shape
    return Interface(
        graph.source, graph.inputs, shape[1] if len(shape) > 1 else 1, graph.normalization, graph.classes, vocabulary=vocabulary_size(graph)
    )


def read_data(request: CompressRequest, model: Interface, *, seed: int, progress: Progress = SILENT) -> Dataset:
    """The data set of `request.data`, which must be given.

    Raises:
        InputError: missing, damaged or over a limit, it does not fit the model, or the model is not one of one input.
        UsageError: the normalization cannot be.
    """
    assert request.data is not None
    shape = model.inputs[0].shape[1:]
    if len(model.inputs) != 1 or None in shape:
        raise InputError(f"{model.name} has {len(model.inputs)} inputs: --data serves models with one, of fixed sizes")
    return load_data(
        request.data,
        input_shape=tuple(size for size in shape if size is not None),
        outputs=model.outputs,
        normalization=_given(request),
        checkpoint_normalization=model.normalization,
        class_names=model.classes,
        seed=seed,
        label_column=request.label_column,
        vocabulary=model.vocabulary,
        limits=Limits() if request.max_bytes is None else Limits(max_bytes=request.max_bytes),
        progress=progress,
    )


def _given(request: CompressRequest) -> Normalization | None:
    if request.mean is None and request.std is None:
        return None
    return Normalization(request.mean or (0.0,), request.std or (1.0,))
