"""Figure 2 of L1/L2 surrogates, redrawn: `python tests/benchmarks/surrogate_fashion.py fashion_mnist_subset10k.npz`.

Section 3.3: a perceptron of one hidden layer with a batch norm behind its first linear layer, trained, and then trained on with a mask on its
inputs under equation 3 (the L1 norm) or equation 4 (L1/L2), from masks of ones, by projected SGD. The two penalties are the same number there, so
one multiplier means the same for both; several are tried, as neither norm is at its best with the other's.

It comes out as in the paper but for panel (d): L1 shrinks all masks alike and leaves most inputs, L1/L2 follows the MACs. The batch norm makes up
for small masks here without larger weights, and it is under L1/L2 that these grow, where few inputs are left to do the work.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, heading, write
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from compresskit.pruning.surrogate.norms import NORMS
from compresskit.runtime import set_threads

HIDDEN = 256
BATCH = 128
RATE = 0.1  # before the mask is trained
MASKED_RATE = 0.05  # with it, of weights and mask
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
PRETRAINING, TRAINING = 5, 24  # epochs
LAMBDAS = (5.0, 10.0, 20.0)  # of a penalty that is 1 where nothing is masked
DRAWN = 10.0  # the multiplier whose runs the picture shows epoch by epoch
COLORS = {"l1": "tab:orange", "l1l2": "tab:blue"}
NAMES = {"l1": "L1", "l1l2": "L1/L2"}


class MaskedPerceptron(nn.Module):
    """784 inputs, each times its mask, to 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(784, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.Linear(HIDDEN, 10)
        self.mask = nn.Parameter(torch.ones(784))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 784) -> (N, 10)."""
        return self.last(F.relu(self.norm(F.linear(x, self.first.weight * self.mask, self.first.bias))))

    def surrogate(self, norm: str) -> Tensor:
        """What the penalty says is left of the first layer's MACs, a fraction: a differentiable scalar."""
        mask = self.mask
        return NORMS[norm](mask.abs().sum()[None], mask.square().sum()[None], mask.new_tensor([784.0]))[0] / 784

    def kept(self) -> float:
        """What is left of them: the fraction of the masks that are not zero."""
        return float((self.mask > 0).float().mean())


@dataclass(frozen=True)
class Point:
    """Where a run stood after an epoch; `surrogate` and `kept` are fractions of the first layer's MACs."""

    epoch: int
    mean: float
    variance: float
    surrogate: float
    kept: float
    frobenius: float
    accuracy: float


def load(path: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalised images and classes: 8,000 to train on and 2,000 to test on."""
    with np.load(path) as arrays:
        x, y = torch.from_numpy(arrays["images"]).float().flatten(1) / 255, torch.from_numpy(arrays["labels"])
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    x = (x - x[:8000].mean()) / x[:8000].std()
    return x[:8000], y[:8000], x[8000:], y[8000:]


def train(net: MaskedPerceptron, data: Sequence[Tensor], epochs: int, seed: int, norm: str | None = None, multiplier: float = 0.0) -> Iterator[int]:
    """Train by projected SGD; a norm trains the mask too. Yields after each epoch its number from 1."""
    x, y = data[:2]
    net.mask.requires_grad_(norm is not None)
    masks = [] if norm is None else [{"params": [net.mask], "weight_decay": 0.0}]
    weights = [{"params": [p for p in net.parameters() if p is not net.mask]}]
    optimizer = torch.optim.SGD(weights + masks, lr=MASKED_RATE if norm else RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    order = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        net.train()
        for rows in torch.randperm(len(x), generator=order).split(BATCH):
            loss = F.cross_entropy(net(x[rows]), y[rows])
            if norm is not None:
                loss = loss + multiplier * net.surrogate(norm)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                net.mask.clamp_(min=0)
        yield epoch + 1


@torch.no_grad()
def look(net: MaskedPerceptron, norm: str, epoch: int, data: Sequence[Tensor]) -> Point:
    net.eval()
    right = (net(data[2]).argmax(1) == data[3]).float().mean()
    figures = (net.mask.mean(), net.mask.var(unbiased=False), net.surrogate(norm), net.kept(), net.first.weight.norm(), right)
    return Point(epoch, *(round(float(value), 5) for value in figures))


def measure(data: Sequence[Tensor], norm: str, multiplier: float, seed: int) -> dict[str, Any]:
    """One run: its epochs, the first of them before the mask is trained."""
    torch.manual_seed(seed)
    net = MaskedPerceptron()
    for _ in train(net, data, PRETRAINING, seed):
        pass
    path = [look(net, norm, 0, data)]
    path += [look(net, norm, epoch, data) for epoch in train(net, data, TRAINING, seed, norm, multiplier)]
    return {"norm": norm, "lambda": multiplier, "seed": seed, "path": [asdict(point) for point in path]}


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where the runs ended, as means over the seeds; `gap` is the largest distance of surrogate and MACs on the way."""
    table = []
    for norm, multiplier in sorted({(row["norm"], row["lambda"]) for row in rows}):
        runs = [row["path"] for row in rows if (row["norm"], row["lambda"]) == (norm, multiplier)]
        ends = {name: round(statistics.mean(path[-1][name] for path in runs), 4) for name in asdict(Point(*[0] * 7)) if name != "epoch"}
        gap = statistics.mean(max(abs(point["surrogate"] - point["kept"]) for point in path) for path in runs)
        table.append({"norm": norm, "lambda": multiplier, "runs": len(runs), **ends, "gap": round(gap, 4)})
    return table


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The four panels of the paper's figure."""
    figure = Figure(figsize=(11, 2.8), layout="constrained")
    panels = figure.subplots(1, 4)
    for axes, name in zip(panels[[0, 1, 3]], ("mean", "variance", "frobenius"), strict=True):
        for row in rows:
            if row["lambda"] == DRAWN:
                epochs, values = zip(*((point["epoch"], point[name]) for point in row["path"]), strict=True)
                axes.plot(epochs, values, color=COLORS[row["norm"]], label=NAMES[row["norm"]] if row["seed"] == 0 else None)
        axes.set_xlabel("epoch")
    for norm, color in COLORS.items():
        points = [point for row in rows if row["norm"] == norm for point in row["path"]]
        panels[2].scatter([p["kept"] for p in points], [p["surrogate"] for p in points], s=3, color=color, label=NAMES[norm])
    panels[2].plot([0, 1], [0, 1], color="0.7", linewidth=0.8, zorder=0)
    panels[2].set_xlabel("MACs kept")
    panels[2].set_ylabel("surrogate")
    titles = ("(a) mean of the mask", "(b) its variance", "(c) surrogate and MACs", "(d) Frobenius norm of W")
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=9)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "surrogate_fashion.json")
    options = parser.parse_args()
    threads = set_threads(options.threads)
    data = load(options.data)
    rows = []
    for norm in COLORS:
        for multiplier in LAMBDAS:
            for seed in range(options.seeds):
                rows.append(measure(data, norm, multiplier, seed))
                print({**{name: rows[-1][name] for name in ("norm", "lambda", "seed")}, **rows[-1]["path"][-1]}, file=sys.stderr, flush=True)
    settings = {"hidden": HIDDEN, "epochs": TRAINING, "pretraining": PRETRAINING, "rate": MASKED_RATE, "momentum": MOMENTUM, "drawn": DRAWN}
    write(options.output, {**heading(threads, "matplotlib"), "settings": settings, "summary": summary(rows), "rows": rows})
    draw(rows, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
