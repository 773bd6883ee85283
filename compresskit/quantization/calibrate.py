"""Watching the activations of the float model on real inputs, batch by batch: memory does not grow with the number of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from compresskit.data import Dataset, normalize
from compresskit.errors import InputError
from compresskit.models.isolated import Child, IsolatedSession
from compresskit.progress import SILENT, Progress
from compresskit.quantization.network import Network
from compresskit.quantization.statistics import Statistics

_BATCH_BYTES = 32 * 2**20
_LARGEST_BATCH = 32


@dataclass(frozen=True)
class Samples:
    """Inputs of a model, drawn from the training split and normalized when they are asked for."""

    data: Dataset
    chosen: np.ndarray

    def __len__(self) -> int:
        return len(self.chosen)

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """The float32 inputs `start` to `stop`."""
        return normalize(torch.from_numpy(self.data.train.x[self.chosen[start:stop]]), self.data.normalization).numpy()


def draw_samples(data: Dataset, count: int, seed: int) -> Samples:
    """`count` samples of the training split, or all where it has fewer.

    Raises:
        InputError: they are all the same number, from which no range can be told.
    """
    x = data.train.x
    if x.min() == x.max():
        raise InputError(f"every value of the calibration data is {x.flat[0]:g}: give data like those that the model is for")
    return Samples(data, np.sort(np.random.default_rng(seed).permutation(len(x))[:count]))


def observe(
    network: Network,
    tensors: Sequence[str],
    samples: Callable[[int, int], np.ndarray],
    count: int,
    *,
    batch: int | None = None,
    threads: int = 1,
    child: Child | None = None,
    progress: Progress = SILENT,
) -> dict[str, Statistics]:
    """Statistics of `tensors` over `count` samples.

    Args:
        network: with one input that is not stored.
        samples: the float32 inputs of samples `start` to `stop`.
        batch: that the model fixes; None: chosen such that the watched tensors stay below 32 MiB.

    Raises:
        InputError: a tensor is not finite, or ONNX Runtime cannot run the model.
    """
    statistics = {name: Statistics(name) for name in tensors}
    (name,) = network.inputs
    inner = [tensor for tensor in tensors if tensor != name]
    with IsolatedSession(watching(network.to_model(), inner).SerializeToString(), threads=threads, child=child) as session:
        progress.stage("calibrate", count)
        for start, stop in pieces(session, name, samples, count, batch):
            x = samples(start, stop)
            values = session.run({name: x if batch is None else np.resize(x, (batch, *x.shape[1:]))})[-len(inner) :] if inner else []
            for tensor, value in zip(inner, values, strict=True):
                statistics[tensor].update(value)
            if name in statistics:
                statistics[name].update(x)
            progress.advance(stop - start)
    return statistics


def watching(model: onnx.ModelProto, tensors: Sequence[str], kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A copy of `model` that puts out `tensors` too, behind its own outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name in tensors)
    return copy


def pieces(
    session: IsolatedSession, name: str, samples: Callable[[int, int], np.ndarray], count: int, batch: int | None
) -> Iterator[tuple[int, int]]:
    """Ranges of samples to run at once: as many as `batch`, or such that what the session puts out stays below 32 MiB."""
    if batch is None:
        size = sum(value.nbytes for value in session.run({name: samples(0, 1)}))
        batch = max(1, min(_LARGEST_BATCH, _BATCH_BYTES // max(size, 1)))
    for start in range(0, count, batch):
        yield start, min(start + batch, count)
