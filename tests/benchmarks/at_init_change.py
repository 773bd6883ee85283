"""Figure 3.2: how well scores foretell what a removal does: `python tests/benchmarks/at_init_change.py CIFAR10.npz`.

On VGG-19 at initialization and one balanced batch, the score of SNIP and of 3SP is the first-order change of the loss when a mask entry goes
from 1 to 0: minus the gradient. Beside it stands the actual change, entry by entry, for entries drawn at random; likewise for whole sets that
a threshold would remove. Single weights change so little that the loss needs float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from at_init_common import fresh_vgg19, parser, some
from at_init_plot import draw_changes
from common import Row, collect

from compresskit.data import Dataset
from compresskit.models.graph import ModelGraph
from compresskit.pruning.at_init import ChannelMasks, Task, WeightMasks, balanced_batches
from compresskit.pruning.at_init.masks import Masks
from compresskit.pruning.at_init.network import loss_of, mask_gradients, weights_of
from compresskit.pruning.footprint import footprint
from compresskit.pruning.groups import find_groups
from compresskit.runtime import set_threads

ENTRIES = 40  # removed one by one, of each granularity
SETS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # shares of all entries, removed at once, those with the lowest scores first
PANELS = ("weights", "channels")


def task_of(graph: ModelGraph, granularity: str, data: Dataset, seed: int) -> Task:
    x, y = next(balanced_batches(data.train, data.normalization, data.classes, seed=seed))
    prunable = find_groups(graph)
    masks: Masks = WeightMasks(prunable.graph.module)
    if granularity == "channels":
        masks = ChannelMasks(prunable, footprint(prunable.graph, prunable.coupling, "params"))
    prunable.graph.module.double()  # only now: the graph's inputs are of single precision
    return Task(prunable.graph, masks, 0.5, [(x.double(), y)], loss_in_full, seed)


def loss_in_full(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cross entropy in float64, where `compresskit.training.objectives.loss` rounds."""
    return torch.nn.functional.cross_entropy(out, y)


def measure(granularity: str, seed: int, data: Dataset) -> Row:
    """Predicted and actual changes of one network's loss."""
    task = task_of(fresh_vgg19(seed), granularity, data, seed)
    ones = task.masks.ones()
    batch = next(task.draw(1))
    slopes = torch.cat([slope.flatten() for slope in mask_gradients(task, ones, batch).values()])
    weights, network = weights_of(task.graph.module), loss_of(task)

    def without(entries: np.ndarray) -> float:
        flat = torch.ones(len(slopes), dtype=torch.float64)
        flat[torch.from_numpy(entries)] = 0
        masks = {
            name: part.reshape(mask.shape) for (name, mask), part in zip(ones.items(), flat.split([m.numel() for m in ones.values()]), strict=True)
        }
        with torch.no_grad():
            return float(network(task.masks.apply(weights, masks), batch))

    whole = without(np.array([], dtype=np.int64))
    chosen = np.random.default_rng(seed).choice(len(slopes), ENTRIES, replace=False)
    singles = [(-float(slopes[entry]), without(np.array([entry])) - whole) for entry in chosen]
    order = slopes.abs().argsort().numpy()
    sets = [order[: round(share * len(order))] for share in SETS]
    together = [(-float(slopes[torch.from_numpy(entries)].sum()), without(entries) - whole) for entries in sets]
    return {"granularity": granularity, "seed": seed, "loss": whole, "entries": len(slopes), "single": singles, "sets": together}


def summary(rows: list[Row]) -> Mapping[str, Any]:
    """Correlations over the single removals of all seeds, and how far the actual changes are from the predicted ones."""
    table = {}
    for name in PANELS:
        points = np.array([point for row in rows if row["granularity"] == name for point in row["single"]])
        if len(points):
            predicted, actual = points.T
            table[name] = {
                "pearson": round(float(np.corrcoef(predicted, actual)[0, 1]), 4),
                "spearman": round(float(np.corrcoef(_ranks(predicted), _ranks(actual))[0, 1]), 4),
                "pearson_of_sizes": round(float(np.corrcoef(np.abs(predicted), np.abs(actual))[0, 1]), 4),
                "relative_error": round(float(np.linalg.norm(actual - predicted) / np.linalg.norm(actual)), 4),
            }
    return {"summary": table}


def _ranks(values: np.ndarray) -> np.ndarray:
    return values.argsort().argsort()


def main() -> None:
    options = parser(__doc__, "at_init_change.json").parse_args()
    threads = set_threads(options.threads)
    data = some(options.data)
    common = {"network": "VGG-19 of appendix A.4.1", "entries": ENTRIES, "sets": SETS}
    jobs: list[tuple[tuple[str, int], Callable[[], Row]]] = [
        ((name, seed), partial(measure, name, seed, data)) for seed in range(options.seeds) for name in PANELS
    ]
    rows = collect(options.output, threads, common, jobs, lambda row: (row["granularity"], row["seed"]), summary)
    panels = {name: [point for row in rows if row["granularity"] == name for point in row["single"]] for name in PANELS}
    draw_changes(panels, {name: found["pearson"] for name, found in summary(rows)["summary"].items()}, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
