"""Train the metanetwork that ships: `python tests/benchmarks/train_metanetwork.py WEIGHTS... --data CIFAR10.npz --work FOLDER --output FILE`.

It learns from published networks (akamaster's ResNet-20 for the one that ships), on some of CIFAR-10's training images. The state is kept in the
work folder, so that a run that was stopped goes on. What the command reports is kept in results/metanetwork.json, and the curves of the epochs
that were judged in results/metanetwork.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from common import RESULTS, heading, write
from metaprune_common import AKAMASTER, lifted

from compresskit.cli.plot import Series, draw_curves
from compresskit.metaprune.config import MetatrainConfig, MetatrainRequest
from compresskit.metaprune.meta_pipeline import run
from compresskit.metaprune.reports import CurvePoint
from compresskit.models.checkpoint import save_checkpoint


class Log:
    """Progress as lines: notes, and every tenth step with its figures."""

    def __init__(self) -> None:
        self.name, self.done = "", 0

    def stage(self, name: str, total: int | None = None) -> None:
        self.name, self.done = name, 0

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.done += steps
        if figures and self.done % 10 == 0:
            print(self.name, self.done, {name: round(value, 4) for name, value in figures.items()}, file=sys.stderr, flush=True)

    def note(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)


def network(weights: Path, folder: Path) -> Path:
    """The network with published weights, as a file that needs nothing else."""
    path = folder / f"{weights.stem}.pt"
    path.write_bytes(save_checkpoint(lifted(weights), "pt"))
    return path


def subset(source: Path, folder: Path, samples: int) -> Path:
    """The first `samples` training images, as a file."""
    path = folder / f"cifar_{samples}.npz"
    with np.load(source) as arrays:
        np.savez(path, x_train=arrays["x_train"][:samples], y_train=arrays["y_train"][:samples])
    return path


def series(label: str, curve: tuple[CurvePoint, ...]) -> Series:
    return Series(label, [(point.speedup, point.accuracy) for point in curve])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--milestones", type=int, nargs="*", default=[3])
    parser.add_argument("--pruner-reg", type=float, default=0.015)
    parser.add_argument("--tuning", type=float, default=1.0)
    parser.add_argument("--tolerance", type=float, default=0.06)
    return parser.parse_args()


def main() -> None:
    options, progress = arguments(), Log()
    options.work.mkdir(exist_ok=True)
    networks = [str(network(weights, options.work)) for weights in options.weights]
    config = MetatrainConfig(
        epochs=options.epochs,
        batch_size=250,
        accumulate=options.accumulate,
        milestones=tuple(options.milestones),
        pruner_reg=options.pruner_reg,
        normalize="mean",
        tuning=options.tuning,
        tolerance=options.tolerance,
    )
    request = MetatrainRequest(
        networks[0],
        others=tuple(networks[1:]),
        output=str(options.output),
        config=config,
        data=str(subset(options.data, options.work, options.samples)),
        mean=AKAMASTER.mean,
        std=AKAMASTER.std,
        device="cpu",
        threads=1,
        checkpoint=str(options.work / "state"),
        checkpoint_minutes=2,
        resume=True,
        force=True,
    )
    report = run(request, progress)
    curves = [series("without a metanetwork", report.original), *(series(f"epoch {one.epoch}", one.curve) for one in report.judged)]
    title = "rewritten and trained, then cut without training"
    (RESULTS / "metanetwork.png").write_bytes(draw_curves(curves, ".png", title=title, x="speed-up (MACs)", y="validation accuracy"))
    kept = json.loads(report.to_json())
    result = {name: kept[name] for name in ("settings", "parameters", "losses", "least", "original", "judged", "chosen", "stages")}
    write(RESULTS / "metanetwork.json", {**heading(1), "samples": options.samples, **result})


if __name__ == "__main__":
    main()
