"""Is the exported model the model? The graph in torch against its ONNX form in ONNX Runtime, on random or real inputs.

The promise is `|onnx - ref| <= 1e-5 + 1.3e-6 |ref|` (what torch.testing asks of float32). Deep nets break it by the order of float32 sums
alone, torch against itself on another machine included, so `ref` is the graph run in float64, and the bound widens with the error that
torch's own float32 run makes against it:

    |onnx - y64| <= max(1e-5 + 1.3e-6 |y64|,  min(8 e, 1e-3 m))        e = max |y32 - y64|,  m = max |y64|, over all samples of an output

Both float32 runs accumulate the same kind of rounding errors, in another order (other blocking, batch norm folded, fused activations),
so an honest export stays within a small factor of e (at most 2.1 over the zoo), while a changed weight is off by its own size. No net
earns more than 0.1% of its output's magnitude, however badly it is conditioned.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from compresskit.errors import GuardError
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.onnx_emit import follows_batch
from compresskit.models.sessions import Feeds, open_session
from compresskit.wording import first_line

_ABSOLUTE, _RELATIVE = 1e-5, 1.3e-6
_ROUNDING_FACTOR = 8.0
_CEILING = 1e-3
_BATCH = 8


@dataclass(frozen=True)
class Parity:
    """How far ONNX Runtime's outputs are from the float64 reference.

    Attributes:
        max_abs_error: the largest difference.
        max_ratio: the largest difference in units of what is allowed there; 1 is the limit.
        samples: inputs compared.
    """

    max_abs_error: float
    max_ratio: float
    samples: int


def check_parity(graph: ModelGraph, model: bytes, *, inputs: int = 32, samples: Sequence[np.ndarray] | None = None, seed: int = 0) -> Parity:
    """Check that `model`, exported from `graph`, computes what `graph` does.

    Where the batch is open, a quarter of the samples run alone and the rest in batches of 8.

    Args:
        model: the serialized ONNX model.
        inputs: random samples to draw (standard normal; indices below the size of the embedding that they go into).
        samples: real ones instead, an array an input, samples along axis 0.

    Raises:
        GuardError: an output differs by more than rounding explains, or ONNX Runtime cannot run the model.
    """
    batches = _batches(graph, inputs, seed) if samples is None else _sliced(graph, samples)
    single = copy.deepcopy(graph.module).cpu().eval()
    double = _Double(copy.deepcopy(single).double())
    feeds = [{spec.name: array for spec, array in zip(graph.inputs, batch, strict=True)} for batch in batches]
    onnx_ = _onnx_outputs(model, feeds)
    exact, torch_ = [], []
    with torch.no_grad():
        for batch in batches:
            tensors = [torch.from_numpy(array) for array in batch]
            exact.append(_arrays(double.run(*(tensor.double() if tensor.is_floating_point() else tensor for tensor in tensors))))
            torch_.append(_arrays(single(*tensors)))
    by_output = zip(graph.outputs, zip(*exact, strict=True), zip(*torch_, strict=True), zip(*onnx_, strict=True), strict=True)
    checks = [_compare(*output) for output in by_output]
    count = sum(batch[0].shape[0] if batch[0].ndim else 1 for batch in batches)
    return Parity(max(error for error, _ in checks), max(ratio for _, ratio in checks), count)


class _Double(fx.Interpreter):
    """Runs a graph in float64, also where it names float32 itself (casts, new tensors)."""

    def run_node(self, n: fx.Node) -> Any:
        with self._set_current_node(n):
            args, kwargs = fx.node.map_aggregate(self.fetch_args_kwargs_from_env(n), _widened)
            return getattr(self, n.op)(n.target, args, kwargs)


def _widened(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


def _batches(graph: ModelGraph, inputs: int, seed: int) -> list[list[np.ndarray]]:
    """Random inputs, an array an input, for as many runs as it takes."""
    rng = np.random.default_rng(seed)
    tables = [module.num_embeddings for module in graph.module.modules() if isinstance(module, nn.Embedding)]
    return [[_draw(spec, size, rng, min(tables, default=2)) for spec in graph.inputs] for size in _sizes(graph, inputs)]


def _draw(spec: TensorSpec, batch: int, rng: np.random.Generator, indices: int) -> np.ndarray:
    shape = spec.sized(batch)
    drawn = rng.standard_normal(shape) if spec.dtype.is_floating_point else rng.integers(0, indices, shape)
    return torch.as_tensor(drawn).to(spec.dtype).numpy()


def _sliced(graph: ModelGraph, samples: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Real samples, cut into runs; the last run of a fixed batch is filled up from the start."""
    ends = np.cumsum(_sizes(graph, len(samples[0])))
    rows = np.arange(ends[-1]) % len(samples[0])
    return [[array[part] for array in samples] for part in np.split(rows, ends[:-1])]


def _sizes(graph: ModelGraph, count: int) -> list[int]:
    """The batch of each run: where it is open a quarter of the samples alone and the rest in batches, else the file's."""
    if not follows_batch(graph):
        fixed = next(iter(graph.inputs[0].sized(1)), 1)
        return [fixed] * max(1, -(-count // fixed))
    alone = max(1, count // 4)
    full, rest = divmod(count - alone, _BATCH)
    return [1] * alone + [_BATCH] * full + [rest] * (rest > 0)


def _onnx_outputs(model: bytes, feeds: Sequence[Feeds]) -> list[list[np.ndarray]]:
    try:
        session = open_session(model)
        return [session.run(None, dict(feed)) for feed in feeds]
    except Exception as error:  # the runtime's classes have no base of their own
        raise GuardError(f"ONNX Runtime cannot run the exported model: {first_line(error)}") from error


def _arrays(result: Any) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in (result if isinstance(result, list | tuple) else [result])]


def _compare(spec: TensorSpec, exact: Sequence[np.ndarray], single: Sequence[np.ndarray], given: Sequence[np.ndarray]) -> tuple[float, float]:
    """Largest error, and largest error over what is allowed, of one output; a list item is one run.

    Raises:
        GuardError: the ratio is over 1.
    """
    shapes = [[array.shape for array in arrays] for arrays in (exact, given)]
    if shapes[0] != shapes[1]:
        raise GuardError(f"the exported model is not the model: output {spec.name!r} has shape {shapes[1][0]}, expected {shapes[0][0]}")
    y64, y32, out = (np.concatenate([array.ravel() for array in arrays]).astype(np.float64) for arrays in (exact, single, given))
    finite = np.isfinite(y64) & np.isfinite(y32)
    agree = np.array_equal(y32[~finite], out[~finite], equal_nan=True)
    y64, y32, out = y64[finite], y32[finite], out[finite]
    error = np.where(np.isfinite(out), np.abs(out - y64), np.inf)
    ratio = float(np.max(error / _allowed(y64, y32, spec.dtype.is_floating_point), initial=0.0)) if agree else np.inf
    worst = float(np.max(error, initial=0.0))
    if not ratio <= 1:
        raise GuardError(f"the exported model is not the model: output {spec.name!r} is off by {worst:.3g}, {ratio:.3g} times what rounding explains")
    return worst, ratio


def _allowed(y64: np.ndarray, y32: np.ndarray, floating: bool) -> np.ndarray:
    """The bound of the module's docstring, an entry an element; integers have to be equal."""
    if not floating:
        return np.full_like(y64, 0.5)
    rounding = float(np.max(np.abs(y32 - y64), initial=0.0))
    magnitude = float(np.max(np.abs(y64), initial=0.0))
    return np.maximum(_ABSOLUTE + _RELATIVE * np.abs(y64), min(_ROUNDING_FACTOR * rounding, _CEILING * magnitude))
