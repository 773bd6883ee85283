"""What `quantize` starts from, whatever it was given: a checked ONNX model, and what its inputs are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from compresskit.data import Dataset, Limits, load_data
from compresskit.data.files import read_bytes
from compresskit.errors import InputError, UsageError
from compresskit.models.graph import Normalization, TensorSpec, random_inputs
from compresskit.models.load import MAX_BYTES, STDIN, load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.models.onnx_parse import read_inputs
from compresskit.models.onnx_safety import read_onnx
from compresskit.models.sniff import Kind, sniff
from compresskit.progress import Progress
from compresskit.quantization.config import QuantizeRequest


@dataclass(frozen=True)
class Source:
    """A float model.

    Attributes:
        model: as ONNX.
        name: for messages and reports.
        inputs: that are not stored.
        arch, normalization, classes: as in `ModelGraph`, where the file says.
    """

    model: onnx.ModelProto
    name: str
    inputs: tuple[TensorSpec, ...]
    arch: str | None = None
    normalization: Normalization | None = None
    classes: tuple[str, ...] | None = None

    def feeds(self) -> dict[str, np.ndarray]:
        """One random sample, or the batch that the file fixes."""
        values = random_inputs(self.inputs, 1, free_batch=False)
        return {spec.name: value.numpy() for spec, value in zip(self.inputs, values, strict=True)}


def read_source(request: QuantizeRequest) -> Source:
    """Read the model; ONNX stays as it is, everything else is exported to it.

    Raises:
        CompresskitError: as `load_model`.
    """
    data = _onnx_bytes(request)
    if data is None:
        graph = load_model(request.model, arch=request.arch, input_shape=request.input_shape, trust=request.trust, max_bytes=request.max_bytes)
        return Source(export_onnx(graph), graph.source, graph.inputs, graph.arch, graph.normalization, graph.classes)
    name = STDIN if isinstance(request.model, bytes) else request.model
    if request.arch is not None:
        raise UsageError(f"{name}: --arch {request.arch} is for state_dicts: an ONNX model says its architecture itself")
    folder = None if isinstance(request.model, bytes) else Path(request.model).parent
    try:
        model = read_onnx(data, folder=folder, max_bytes=request.max_bytes or MAX_BYTES)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error.__cause__
    return Source(model, name, read_inputs(model, name, request.input_shape))


def _onnx_bytes(request: QuantizeRequest) -> bytes | None:
    """The contents of an ONNX file; None for every other kind of model."""
    if isinstance(request.model, bytes):
        return request.model if sniff(request.model) is Kind.ONNX else None
    path, limit = Path(request.model), request.max_bytes or MAX_BYTES
    try:
        plain = path.is_file() and path.stat().st_size <= limit
    except (OSError, ValueError):  # a name too long, or with a NUL
        plain = False
    if not plain:
        return None  # whatever is wrong with it, load_model says so
    data = read_bytes(path)
    try:
        return data if sniff(data) is Kind.ONNX else None
    except InputError:
        return None


def read_samples(request: QuantizeRequest, source: Source, progress: Progress) -> Dataset | None:
    """The data to calibrate and to measure on, if there are any.

    Raises:
        InputError: they do not fit the model, or the model is not one of one input.
        UsageError: the normalization cannot be.
    """
    if request.data is None:
        return None
    shape = source.inputs[0].shape[1:]
    if len(source.inputs) != 1 or None in shape:
        raise InputError(f"{source.name} has {len(source.inputs)} inputs: --data serves models with one")
    given = None
    if request.mean is not None or request.std is not None:
        given = Normalization(request.mean or (0.0,), request.std or (1.0,))
    return load_data(
        request.data,
        input_shape=tuple(size for size in shape if size is not None),
        outputs=_classes(source.model),
        normalization=given,
        checkpoint_normalization=source.normalization,
        class_names=source.classes,
        seed=request.config.seed,
        label_column=request.label_column,
        limits=Limits() if request.max_bytes is None else Limits(max_bytes=request.max_bytes),
        progress=progress,
    )


def _classes(model: onnx.ModelProto) -> int | None:
    """How many numbers the one output has for a sample; None where the file does not say."""
    if len(model.graph.output) != 1:
        return None
    dims = model.graph.output[0].type.tensor_type.shape.dim
    return dims[-1].dim_value or None if len(dims) > 1 else 1 if dims else None
