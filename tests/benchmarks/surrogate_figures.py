"""Section 4.3 of L1/L2 surrogates on handwritten digits: `python tests/benchmarks/surrogate_figures.py sample_data/digits_resnet.pt digits.npz`.

Figure 4 b: L1 and L1/L2, each with masks projected onto the non-negative and without. Figure 4 c: channels, and channels with ranks, at equal
MACs. The paper's networks and data are out of reach of two cores, so this is the sample network, at so few MACs that methods come apart, over
several seeds. All rows share epochs, loop and the control of lambda; without projection a mask may change its sign, and counts by its size.

What came out: the L1/L2 surrogate stays within 0.1 of the MACs on average where L1 is 0.4 to 0.8 away, and at a tenth of the MACs projection is
worth a point. That both projected norms end in much the same networks is the short search's doing (five steps): masks start in the criterion's
order, and neither norm changes it. Ranks beside channels gain nothing on kernels as small as these. Figure 4 d is that of `surrogate_latency.py`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from common import RESULTS, heading, write
from matplotlib.figure import Figure
from torch import Tensor

from compresskit.data import Dataset, load_data
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph
from compresskit.models.load import load_model
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.pruning.surrogate import learn
from compresskit.pruning.surrogate.control import FASTEST, HALVINGS, Control
from compresskit.pruning.surrogate.norms import NORMS
from compresskit.runtime import set_threads
from compresskit.training import evaluate

TARGETS = (0.2, 0.1)
EPOCHS = 5.0


class Unprojected(Control):
    """Masks of any sign: the same steps along the gradient for the masks' sizes, none of which ends exactly at zero."""

    @torch.no_grad()
    def __call__(self, step: int) -> None:
        mask = self.masked.mask
        whole = self.surrogate.whole
        direction = self._direction(mask.abs()) * mask.sign()
        shift = self._reach(mask, direction, whole - (whole - self.goal) * step / self.steps)
        mask.sub_(shift * direction)
        costs = torch.stack([self.surrogate(mask.abs(), self.norm), self.surrogate.standing(mask.abs())]) / whole
        self.masked.log[(step * len(self.masked.log) - 1) // self.steps] = torch.cat([costs, shift[None] / self.rate])
        if step == self.steps:
            mask.abs_()  # what is read off in the end are sizes

    def _reach(self, mask: Tensor, direction: Tensor, goal: float) -> Tensor:
        low, high = mask.new_zeros(()), FASTEST / self.steps * mask.abs().max()
        if self.surrogate.standing(mask.abs()) <= goal:
            return low
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            over = self.surrogate.standing((mask - middle * direction).abs()) > goal
            low, high = (middle, high) if over else (low, middle)
        return high


def _control(kind: type[Control], norm: str, masked: Any, surrogate: Any, _: Any, *rest: Any) -> Control:
    return kind(masked, surrogate, NORMS[norm], *rest)


@dataclass(frozen=True)
class Method:
    """A panel of the figure, settings beyond the common ones, and what controls the masks."""

    panel: str
    settings: dict[str, Any]
    control: Callable[..., Control] = field(default=Control)


METHODS = {
    "L1/L2, projected": Method("b", {"method": "l1l2", "criterion": "l2"}),
    "L1, projected": Method("b", {"method": "l1l2", "criterion": "l2"}, partial(_control, Control, "l1")),
    "L1/L2": Method("b", {"method": "l1l2", "criterion": "l2"}, partial(_control, Unprojected, "l1l2")),
    "L1": Method("b", {"method": "l1l2", "criterion": "l2"}, partial(_control, Unprojected, "l1")),
    "l1l2: channels, lowrank": Method("c", {"method": "l1l2", "criterion": "l2", "blocks": ("channels", "lowrank")}),
    "classic: channels": Method("c", {"method": "classic", "criterion": "l2"}),
    "classic: channels, lowrank": Method("c", {"method": "classic", "criterion": "l2", "blocks": ("channels", "lowrank")}),
}
SHARED = "L1/L2, projected"  # is "l1l2: channels" of panel c, too


def measure(graph: ModelGraph, data: Dataset, name: str, target: float, seed: int) -> dict[str, Any]:
    """One row; `gap` is the mean distance of the surrogate from the cost of what is alive, over the search."""
    method = METHODS[name]
    began = time.process_time()
    with patch.object(learn, "Control", method.control):
        result = prune(graph, data, PruneConfig(target=Target("flops", target), epochs=EPOCHS, seed=seed, **method.settings))
    seconds = time.process_time() - began
    assert data.test is not None
    found = evaluate(result.graph.module, data.test, data.normalization)
    row = {"method": name, "target": target, "seed": seed, "accuracy": round(found.accuracy or 0.0, 4), "loss": round(found.loss, 4)}
    row["kept_macs"] = round(total(result.graph).macs / total(graph).macs, 4)
    gaps = [abs(point.surrogate - point.cost) for point in result.path]
    return {**row, "gap": round(statistics.mean(gaps), 4) if gaps else None, "cpu_seconds": round(seconds, 1)}


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the seeds."""
    table = []
    for target in TARGETS:
        for name in METHODS:
            runs = [row for row in rows if (row["method"], row["target"]) == (name, target)]
            if runs:
                means = {key: round(statistics.mean(row[key] for row in runs), 4) for key in ("accuracy", "loss", "kept_macs")}
                gaps = [row["gap"] for row in runs if row["gap"] is not None]
                table.append({"method": name, "target": target, "runs": len(runs), **means, "gap": round(statistics.mean(gaps), 4) if gaps else None})
    return table


def draw(table: Sequence[dict[str, Any]], path: Path) -> None:
    """Both panels: accuracy over MACs."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"b": "(b) norms, and projection", "c": "(c) channels, and ranks"}
    for axes, (panel, title) in zip(panels, titles.items(), strict=True):
        names = [name for name, method in METHODS.items() if method.panel == panel or name == SHARED]
        for name in names:
            points = [(entry["kept_macs"], 100 * entry["accuracy"]) for entry in table if entry["method"] == name]
            axes.plot(*zip(*points, strict=True), marker="o", label="l1l2: channels" if name == SHARED and panel == "c" else name)
        axes.set_xlabel("MACs kept")
        axes.set_title(title, fontsize=9)
        axes.legend(fontsize=8)
    panels[0].set_ylabel("top-1 [%]")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "surrogate_figures.json")
    options = parser.parse_args()
    threads = set_threads(options.threads)
    graph, data = load_model(options.model), load_data(options.data, input_shape=(1, 8, 8), outputs=10)
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        for target in TARGETS:
            for name in METHODS:
                rows.append(measure(graph, data, name, target, seed))
                print(rows[-1], file=sys.stderr, flush=True)
        settings = {"epochs": EPOCHS, "test_images": len(data.test or ())}
        write(options.output, {**heading(threads, "matplotlib"), "settings": settings, "summary": summary(rows), "rows": rows})
        draw(summary(rows), options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
