"""How long a model takes in ONNX Runtime, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from compresskit.models import ort_child
from compresskit.models.sessions import Feeds, ask_child, open_session

Clock = Callable[[], float]

_FEWEST = 5
_RESOLUTION = 1e-6  # seconds; some systems tell a thread's time in ticks of 15 milliseconds
_CHILD_SECONDS = 60.0
_FULL = 64
_WIDTHS = {1: 61, 4: 60, 8: 56, 16: 48}


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one run over a batch: the median and the 90th percentile of `runs` runs, by the `clock` of their threads."""

    p50_ms: float
    p90_ms: float
    runs: int
    threads: int
    batch: int


def measure(model: bytes, feeds: Feeds, *, threads: int = 1, warmup: int = 3, seconds: float = 1.0, isolated: bool = False) -> Latency:
    """The latency of one model.

    Args:
        feeds: inputs by name, batch first.
        warmup: runs that do not count.
        seconds: how long to go on; at least 5 runs are made.
        isolated: in a child process, for models that we did not make.

    Raises:
        InputError: (isolated) ONNX Runtime refuses the model, crashes on it, or hangs.
    """
    return _measure([model], feeds, threads, warmup, seconds, isolated)[0]


def compare(
    before: bytes, after: bytes, feeds: Feeds, *, threads: int = 1, warmup: int = 3, seconds: float = 1.0, isolated: bool = False
) -> tuple[Latency, Latency]:
    """The latencies of two models, their runs taken in turns so that whatever else the machine does hits both alike.

    Arguments and errors as `measure`; `seconds` is for each of the two.
    """
    first, second = _measure([before, after], feeds, threads, warmup, seconds, isolated)
    return first, second


def time_runs(models: Sequence[bytes], feeds: Feeds, *, threads: int, warmup: int, seconds: float) -> list[np.ndarray]:
    """Seconds of every counted run, an array a model, in this process. The models take turns."""
    sessions = [open_session(model, threads=threads) for model in models]
    inputs = dict(feeds)
    for session in sessions:
        for _ in range(warmup):
            session.run(None, inputs)
    return list(take_turns([partial(session.run, None, inputs) for session in sessions], clock(threads), seconds=seconds).T)


def clock(threads: int) -> Clock:
    """What times runs with so many threads, in seconds.

    Where the calling thread computes alone, that is its processor time: the same as on the wall, but for the while that other processes
    take the processor away. On a busy machine that while is most of every run of more than a few milliseconds.
    """
    fine = time.get_clock_info("thread_time").resolution <= _RESOLUTION
    return time.thread_time if threads == 1 and fine else time.perf_counter


def take_turns(calls: Sequence[Callable[[], object]], clock: Clock, *, seconds: float) -> np.ndarray:
    """(runs, calls) seconds that each call took by `clock`, in turns, so that whatever else the machine does hits all alike.

    Right before each run that counts comes one that does not, so that caches hold what a call needs and not what the others left.

    Args:
        seconds: for each call, on the wall; 5 runs are made at least.
    """
    took: list[list[float]] = []
    deadline = time.perf_counter() + seconds * len(calls)
    while len(took) < _FEWEST or time.perf_counter() < deadline:
        row = []
        for call in calls:
            call()
            start = clock()
            call()
            row.append(clock() - start)
        took.append(row)
    return np.array(took)


def preferred_multiple(*, threads: int = 1, seconds: float = 0.3) -> int:
    """The channel multiple that ONNX Runtime rewards on this machine: 1, 4, 8, 16 or 32.

    A chain of 3x3 convolutions is timed at 64 channels, and at widths below that are multiples of 16, 8, 4 and 1 but of nothing larger.
    The answer is the smallest multiple whose width saves at least half of the time that its MACs promise. (Runtimes work in blocks of 8 or
    16 channels: with 16, widths of 56 and 60 take as long as 64, and 48 takes two thirds.)

    Args:
        seconds: for each of the five.
    """
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 16, 16), dtype=np.float32)}
    models = [_conv_chain(width) for width in (*_WIDTHS.values(), _FULL)]
    *narrow, full = (took.min() for took in time_runs(models, feeds, threads=threads, warmup=3, seconds=seconds))
    for (multiple, width), took in zip(_WIDTHS.items(), narrow, strict=True):
        if 1 - took / full >= (1 - (width / _FULL) ** 2) / 2:
            return multiple
    return 32


def _measure(models: Sequence[bytes], feeds: Feeds, threads: int, warmup: int, seconds: float, isolated: bool) -> list[Latency]:
    if isolated:
        question = ort_child.request("time", models, dict(feeds), threads=threads, warmup=warmup, seconds=seconds)
        times = ask_child(question, _CHILD_SECONDS + seconds * len(models))
    else:
        times = time_runs(models, feeds, threads=threads, warmup=warmup, seconds=seconds)
    batch = next((array.shape[0] for array in feeds.values() if array.ndim), 1)
    return [Latency(float(np.percentile(took, 50)) * 1e3, float(np.percentile(took, 90)) * 1e3, len(took), threads, batch) for took in times]


def _conv_chain(width: int) -> bytes:
    """Three convolutions with ReLU, 3 -> width -> width -> width channels, on one 16x16 image."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(width)
    nodes, weights = [], []
    for index, ins in enumerate((3, width, width)):
        kernel = rng.standard_normal((width, ins, 3, 3), dtype=np.float32) / (3 * ins**0.5)
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"w{index}"))
        nodes.append(helper.make_node("Conv", [f"a{index}" if index else "x", f"w{index}"], [f"c{index}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"a{index + 1}"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])
    y = helper.make_tensor_value_info("a3", TensorProto.FLOAT, [1, width, 16, 16])
    graph = helper.make_graph(nodes, "chain", [x], [y], weights)
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()
