"""`prune --init` from the command line to the files: what is reported of training, and what is refused or told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compresskit.recipes import RECIPES
from compresskit.report import Report

pytestmark = pytest.mark.usefixtures("one_thread")
Invoke = Callable[..., Any]
NETS = """
import torch
from compresskit.models.zoo import build
from torch import nn


def unet():
    return build("unet", classes=3, in_channels=1, width=0.25)


def plain():
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(768, 3)
    )


def wild():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 3))
    for parameter in net.parameters():
        parameter.data.mul_(1e4)
    return net


class Residual(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.stem, self.inner, self.outer = (nn.Conv2d(inputs, 8, 3, padding=1) for inputs in (1, 8, 8))
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(512, 3)
        nn.init.constant_(self.norm.weight, scale)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.head((x + self.norm(self.outer(torch.relu(self.inner(x))))).flatten(1))


def dead():
    return Residual(0.0)


def faint():
    return Residual(1e-6)
"""


@pytest.fixture
def files(invoke: Invoke) -> None:
    """Networks to build, and data of three classes: bars at three heights."""
    Path("nets.py").write_text(NETS)
    rng = np.random.default_rng(0)
    y = np.resize(np.arange(3), 240)
    x = rng.normal(size=(240, 1, 8, 8)).astype(np.float32)
    x[np.arange(240), 0, 2 * y] += 2
    np.savez("d.npz", x=x, y=y)


def prune(invoke: Invoke, line: str) -> Any:
    shape = [] if line.startswith("net.pt") else ["--input", "1,8,8"]
    return invoke("prune", *line.split(), "--trust", *shape, "-o", "small.onnx", "--no-progress", "--seed", "0")


@pytest.mark.usefixtures("files")
def test_training_costs_less_and_the_recipe_is_told(invoke: Invoke) -> None:
    line = "nets.py:plain --init --method 3sp --params 0.3 --data d.npz --recipe short --epochs 3 --report r.json"
    done = prune(invoke, line)
    assert done.code == 0, done.err
    report = Report.from_json(Path("r.json").read_text())
    before, after = report.before.training, report.after.training
    assert before is not None
    assert after is not None
    assert after.peak_bytes < before.peak_bytes
    assert min(before.epoch_seconds, after.epoch_seconds) > 0
    assert report.after.macs < report.before.macs
    assert (report.settings["recipe"], report.settings["epochs"], report.settings["batch_size"]) == ("short", 3.0, RECIPES["short"].batch_size)
    assert [row for row in done.out.splitlines() if row.startswith(("training, an epoch", "training memory"))]


@pytest.mark.usefixtures("files")
def test_training_that_begins_from_weights_is_not_measured(invoke: Invoke) -> None:
    done = prune(invoke, "nets.py:plain --flops 0.5 --data d.npz --epochs 1 --report r.json")
    assert done.code == 0, done.err
    assert Report.from_json(Path("r.json").read_text()).before.training is None


@pytest.mark.usefixtures("files")
def test_segmentation_is_scored_and_measured_by_its_overlap(invoke: Invoke) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 1, 8, 8)).astype(np.float32)
    np.savez("maps.npz", x=x, y=(x[:, 0] > 0).astype(np.int64) + (x[:, 0] > 1))
    line = "nets.py:unet --init --method prospr --flops 0.5 --data maps.npz --epochs 2 --batch-size 16 --lr 0.05 --report r.json"
    done = prune(invoke, line)
    assert done.code == 0, done.err
    report = Report.from_json(Path("r.json").read_text())
    assert report.before.accuracy is not None
    assert report.after.accuracy is not None
    assert (report.before.accuracy.metric, report.after.accuracy.metric) == ("mean IOU", "mean IOU")
    assert report.after.accuracy.value > report.before.accuracy.value


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("net.pt --init --method synflow --flops 0.5", 2, ["net.pt holds weights", "drop --init"]),
        ("nets.py:plain --init --method prospr --flops 0.5", 2, ["'prospr' needs data", "--data", "synflow"]),
        ("nets.py:plain --init --method snip --flops 0.5 --data d.npz", 2, ["'snip' scores weights", "3sp"]),
        ("nets.py:plain --init --method 3sp --flops 0.5 --data two.npz", 3, ["none of class 1", "all 3 classes"]),
        ("nets.py:dead --init --method 3sp --flops 0.5 --data d.npz", 4, ["inner", "are all zero", "prospr"]),
        ("nets.py:dead --init --method snip --params 0.5 --pattern unstructured --data d.npz", 4, ["inner, outer", "are all zero"]),
    ],
)
def test_bad_input_is_refused_in_one_line(invoke: Invoke, line: str, code: int, words: list[str]) -> None:
    assert prune(invoke, "nets.py:plain --flops 0.9 -o net.pt").code == 0
    Path("small.onnx").unlink()
    with np.load("d.npz") as data:
        np.savez("two.npz", x=data["x"][data["y"] != 1], y=data["y"][data["y"] != 1])
    done = prune(invoke, line)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1), done.err
    assert all(word in done.err for word in words), done.err
    assert not Path("small.onnx").exists()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nets.py:wild --init --method prospr --flops 0.5 --epochs 0", "inner steps, not 3: more of them overflow"),
        ("nets.py:plain --init --method 3sp --flops 0.02 --epochs 0", "is down to its last channel"),
        ("nets.py:faint --init --method snip --params 0.3 --pattern unstructured --epochs 0", "would have lost all weights: its best one stays"),
    ],
)
def test_what_came_otherwise_is_told(invoke: Invoke, line: str, words: str) -> None:
    done = prune(invoke, f"{line} --data d.npz")
    assert done.code == 0, done.err
    assert words in done.err
