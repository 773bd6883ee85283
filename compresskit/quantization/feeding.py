"""Running two networks side by side on the same samples, in child processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import onnx

from compresskit.models.isolated import Child, IsolatedSession, sharing
from compresskit.quantization.calibrate import pieces


@dataclass(frozen=True)
class Feeding:
    """How samples are fed to networks of one input.

    Attributes:
        name: of the input.
        samples: the float32 inputs of samples `start` to `stop`, `count` in all.
        batch: that the model fixes; None: any.
    """

    name: str
    samples: Callable[[int, int], np.ndarray]
    count: int
    batch: int | None = None

    def answers(self, first: IsolatedSession, second: IsolatedSession) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
        """What two sessions put out, batch by batch."""
        for start, stop in pieces(first, self.name, self.samples, self.count, self.batch):
            x = self.samples(start, stop)
            feed = {self.name: x if self.batch is None else np.resize(x, (self.batch, *x.shape[1:]))}
            yield first.run(feed), second.run(feed)


def output_noise(reference: onnx.ModelProto, model: onnx.ModelProto, feeding: Feeding, *, threads: int = 1, child: Child | None = None) -> float:
    """How far a model's outputs are from the reference's: the mean square of the difference over that of the reference, the mean of all outputs.

    Raises:
        InputError: ONNX Runtime cannot run one of them.
    """
    noise = power = np.zeros(len(reference.graph.output))
    with sharing(child) as child, ExitStack() as stack:
        sessions = [stack.enter_context(IsolatedSession(one.SerializeToString(), threads=threads, child=child)) for one in (reference, model)]
        for wanted, found in feeding.answers(sessions[0], sessions[1]):
            noise = noise + [float(np.square(one - other, dtype=np.float64).sum()) for one, other in zip(wanted, found, strict=True)]
            power = power + [float(np.square(one, dtype=np.float64).sum()) for one in wanted]
    return float(np.mean(noise / np.maximum(power, np.finfo(np.float64).tiny)))
