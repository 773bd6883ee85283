"""What scoring costs: `python tests/benchmarks/at_init_cost.py CIFAR10.npz`. Whole ResNet-20, balanced batches of 100 images of CIFAR-10.

Seconds of processor time (one thread) and of the wall, and the most that tensors hold meanwhile: for ProsPr by the number of steps, of both
orders. Memory of the second order grows with the weights that are kept of every step, not with activations.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from at_init_common import parser, some
from cifar import NORMALIZATION
from common import Row, collect

from compresskit.data import Dataset
from compresskit.models.load import load_model
from compresskit.pruning.at_init import SALIENCIES, ChannelMasks, Task, balanced_batches
from compresskit.pruning.footprint import footprint
from compresskit.pruning.groups import find_groups
from compresskit.runtime import seed_everything, set_threads
from compresskit.training.cost import Alive
from compresskit.training.objectives import loss

NETWORK = "resnet20"
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "3sp": ("3sp", {}),
    "grasp": ("grasp", {}),
    **{f"prospr M={steps}": ("prospr", {"steps": steps}) for steps in (1, 3, 6)},
    **{f"prospr M={steps}, first order": ("prospr", {"steps": steps, "first_order": True}) for steps in (3, 30)},
}


def measure(name: str, data: Dataset) -> Row:
    """Score all channels of a fresh network twice: timed, and weighed."""
    seed_everything(0)
    prunable = find_groups(load_model(NETWORK))
    batches = balanced_batches(data.train, NORMALIZATION, data.classes, seed=0)
    task = Task(prunable.graph, ChannelMasks(prunable, footprint(prunable.graph, prunable.coupling, "params")), 0.5, batches, loss)
    method, settings = RUNS[name]
    wall, processor = time.perf_counter(), time.process_time()
    SALIENCIES[method](task, **settings)
    seconds = {"cpu_seconds": round(time.process_time() - processor, 2), "wall_seconds": round(time.perf_counter() - wall, 2)}
    with Alive() as alive:
        SALIENCIES[method](task, **settings)
    return {"run": name, **seconds, "peak_bytes": alive.peak}


def nothing(rows: list[Row]) -> Mapping[str, Any]:
    """The rows say it all."""
    return {}


def main() -> None:
    options = parser(__doc__, "at_init_cost.json").parse_args()
    threads = set_threads(options.threads)
    data = some(options.data)
    jobs: list[tuple[str, Callable[[], Row]]] = [(name, partial(measure, name, data)) for name in RUNS]
    collect(options.output, threads, {"network": NETWORK, "samples": 100}, jobs, lambda row: row["run"], nothing)


if __name__ == "__main__":
    main()
