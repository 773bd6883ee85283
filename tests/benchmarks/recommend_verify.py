"""Predicted against real on what no trial used: `python tests/benchmarks/recommend_verify.py X.predictor DATA_FOLDER CIFAR10.npz [--images 5000]`.

    cifar10   the published ResNet-20 of DATA_FOLDER/models
    fashion   a ResNet-8 trained here for a few epochs on DATA_FOLDER/mnist_fashion: another data set, with one channel

For each network and constraint the five settings that `recommend` names are carried out by `--verify 5`, with the budget of the trials. `inside`
counts real accuracies within the 90% interval, `mae` is the mean error of the prediction, `tau` the rank correlation over the five. Images are the
first so many of each split, so that two cores need a quarter of an hour. Rows that the output holds are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, heading, write

from compresskit.data import load_data
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.graph import TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build
from compresskit.recommend.cases import kendall
from compresskit.recommend.config import RecommendConfig, RecommendRequest
from compresskit.recommend.constraints import Constraints
from compresskit.recommend.pipeline import run
from compresskit.runtime import set_threads
from compresskit.training import TrainConfig, train

CONSTRAINTS: dict[str, dict[str, float]] = {"compression 20": {"compression": 20.0}}
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
BUDGET = "small"
EPOCHS = 3.0
TESTED = 1000

Row = dict[str, Any]


def cifar(folder: Path, archive: Path, kept: Path, images: int) -> RecommendRequest:
    """The published ResNet-20."""
    found = dict(np.load(archive))
    np.savez(kept / "cifar10.npz", **{name: values[: TESTED if "test" in name else images] for name, values in found.items()})
    return _request(kept / "cifar10.npz", folder / "models" / "cifar10_resnet20_chenyaofo.safetensors", arch="resnet20", mean=MEAN, std=STD)


def fashion(folder: Path, archive: Path, kept: Path, images: int) -> RecommendRequest:
    """A small network, trained here."""
    found = np.load(folder / "mnist_fashion" / "fashion_mnist_subset10k.npz")
    order = np.random.default_rng(0).permutation(len(found["labels"]))
    x, y = found["images"][order][..., None], found["labels"][order]
    tested = slice(len(x) - TESTED, None)
    np.savez(kept / "fashion.npz", x_train=x[:images], y_train=y[:images], x_test=x[tested], y_test=y[tested])
    data = load_data(kept / "fashion.npz", input_shape=(1, 28, 28), outputs=10)
    torch.manual_seed(0)
    graph = graph_from_module(build("resnet8", in_channels=1), [TensorSpec("input", (None, 1, 28, 28))], source="resnet8", arch="resnet8")
    train(graph.module, data, TrainConfig(epochs=EPOCHS, lr=0.1))
    (kept / "resnet8.pt").write_bytes(save_checkpoint(graph))
    return _request(kept / "fashion.npz", kept / "resnet8.pt")


def _request(data: Path, model: Path, **fields: Any) -> RecommendRequest:
    return RecommendRequest(str(model), RecommendConfig(Constraints(compression=1.0)), data=str(data), threads=1, **fields)


def verified(request: RecommendRequest, constraint: str) -> Row:
    """One run."""
    config = RecommendConfig(Constraints(**CONSTRAINTS[constraint]), verify=5, budget=BUDGET)
    report = run(RecommendRequest(**{**vars(request), "config": config})).report
    tried = report.recommended
    real = [entry.real for entry in tried if entry.real is not None]
    predicted = [entry.predicted for entry in tried]
    names = ("pruner", "quantizer", "sparsity", "bits", "compression", "predicted", "low", "high", "real", "real_compression")
    tau = kendall(predicted, real)
    return {
        "original": report.original,
        "unlike": report.unlike,
        "nearest": list(report.nearest[:3]),
        "tried": [{name: getattr(entry, name) for name in names} for entry in tried],
        "mae": float(np.mean(np.abs(np.subtract(predicted, real)))),
        "inside": sum(entry.low <= entry.real <= entry.high for entry in tried if entry.real is not None),
        "tau": None if np.isnan(tau) else tau,
        "seconds": report.stages,
    }


NETWORKS = {"cifar10": cifar, "fashion": fashion}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictor", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("archive", type=Path, help="CIFAR-10, channels last or first")
    parser.add_argument("--images", type=int, default=5000, help="to train and choose on")
    parser.add_argument("--only", nargs="+", choices=tuple(NETWORKS), default=tuple(NETWORKS))
    parser.add_argument("--output", type=Path, default=RESULTS / "recommend_verify.json")
    options = parser.parse_args()
    threads = set_threads(1)
    rows: list[Row] = json.loads(options.output.read_text())["rows"] if options.output.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            missing = [constraint for constraint in CONSTRAINTS if not any((r["network"], r["constraint"]) == (name, constraint) for r in rows)]
            if not missing:
                continue
            request = NETWORKS[name](options.folder, options.archive, Path(folder), options.images)
            for constraint in missing:
                asked = RecommendRequest(**{**vars(request), "predictor": str(options.predictor)})
                rows.append({"network": name, "constraint": constraint, **verified(asked, constraint)})
                print(json.dumps(rows[-1], indent=2), flush=True)
                settings = {"images": options.images, "tested": TESTED, "budget": BUDGET, "epochs": EPOCHS}
                write(options.output, {**heading(threads, "xgboost-cpu"), "settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
