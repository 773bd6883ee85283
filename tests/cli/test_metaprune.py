"""`compresskit metaprune` up to the library and back: what it asks for, what it refuses before any work, what it prints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compresskit.errors import GuardError
from compresskit.metaprune.config import MetapruneConfig, MetapruneRequest, MetatrainConfig, MetatrainRequest
from compresskit.metaprune.pipeline import MetapruneOutcome
from compresskit.metaprune.reports import CurvePoint, Judged, LayerStatistics, MetapruneReport, MetatrainReport, Stage
from compresskit.pruning.config import PruneConfig, Target
from compresskit.report import Accuracy, ModelInfo, Output, Report

Invoke = Callable[..., Any]
CURVE = (CurvePoint(1.0, 0.93), CurvePoint(2.0, 0.5))


@pytest.fixture
def metareport(report: Report) -> MetapruneReport:
    return MetapruneReport(
        **{**vars(report), "command": "metaprune"},
        metanetwork="shipped",
        steps=(
            Stage("original", 0.0, 40_810_000, Accuracy(0.926, 0.92, 0.93, 5000)),
            Stage("pruning", 3.0, 20_400_000, Accuracy(0.91, 0.9, 0.92, 5000)),
        ),
        curve_before=CURVE,
        curve_after=CURVE,
        statistics=(LayerStatistics("conv1", 1.0, 0.5, 0.25, 0.125),),
        unconverted=("token: a free parameter has no conversion",),
    )


@pytest.fixture
def pruning(metareport: MetapruneReport, pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    stand_in = type(pipeline)(MetapruneOutcome(metareport))
    monkeypatch.setattr("compresskit.metaprune.pipeline.run", stand_in)
    return stand_in


@pytest.fixture
def training(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    report = MetatrainReport(
        command="metaprune --train",
        arguments=(),
        versions={},
        seed=1,
        threads=2,
        settings={},
        device="cpu",
        model=ModelInfo("a.pt", None, ()),
        models=("a.pt",),
        parameters=1000,
        losses=(2.0, 1.5),
        least=0.92,
        original=CURVE,
        judged=(Judged(2, 0.91, 1.0, CURVE), Judged(1, 0.93, 1.75, CURVE)),
        chosen=1,
        kept="meta.epochs",
        stages={"train": 2.0},
        outputs=(Output("meta.safetensors", "safetensors", 100_000),),
    )
    stand_in = type(pipeline)(report)
    monkeypatch.setattr("compresskit.metaprune.meta_pipeline.run", stand_in)
    return stand_in


def test_what_is_not_said_is_the_library_s_default(invoke: Invoke, pruning: Any) -> None:
    invoke("metaprune", "m.onnx", "--flops", "0.5", "--seed", "3")
    assert pruning.asked == MetapruneRequest(
        "m.onnx",
        config=PruneConfig(target=Target("flops", 0.5), criterion="l2", scope="global", epochs=3.0, seed=3),
        outputs=("m.metapruned.onnx",),
        device="auto",
        arguments=("metaprune", "m.onnx", "--flops", "0.5", "--seed", "3"),
    )


def test_everything_that_is_said_arrives(invoke: Invoke, pruning: Any) -> None:
    line = (
        "metaprune w.pth --speedup 4 --metanetwork n.safetensors --initial 1.3 --epochs 1,10,20 --criterion l1 --normalize mean --scope layer "
        "--floor 0.2 --round-to 2 --explain --lr 0.1 --batch-size 64 --optimizer adamw --schedule cosine --label-smoothing 0.1 --augment none "
        "--distill 0.5 --max-drop 0.01 --data d.npz --device cpu --seed 9 -T 2 -o a.pt --plot c.png --checkpoint s --resume"
    )
    assert invoke(*line.split()).code == 0
    request = pruning.asked
    assert request.meta == MetapruneConfig(10, 1.3, 1, curve=True, explain=True)
    assert request.config == PruneConfig(
        target=Target("flops", 0.25),
        criterion="l1",
        scope="layer",
        normalize="mean",
        floor=0.2,
        round_to=2,
        epochs=20,
        batch_size=64,
        optimizer="adamw",
        learning_rate=0.1,
        schedule="cosine",
        label_smoothing=0.1,
        augment="none",
        distill=0.5,
        max_drop=0.01,
        seed=9,
    )
    assert (request.model, request.metanetwork, request.data, request.outputs) == ("w.pth", "n.safetensors", "d.npz", ("a.pt",))
    assert (request.checkpoint, request.resume, request.threads, request.device) == ("s", True, 2, "cpu")


def test_zeros_in_place_of_cuts(invoke: Invoke, pruning: Any) -> None:
    invoke("metaprune", "m.onnx", "--pattern", "2:4", "--seed", "3")
    assert pruning.asked.config.sparsity == 0.5
    assert pruning.asked.config.pattern == "2:4"


def test_the_stages_and_statistics_are_shown(invoke: Invoke, pruning: Any) -> None:
    done = invoke("metaprune", "m.onnx", "--flops", "0.5", "-v")
    assert "pruning" in done.out
    assert "91.00% [90.00, 92.00]" in done.out
    assert "1 → 0.5" in done.out
    assert "not seen by the metanetwork: 1 parameter" in done.out
    assert "one thing to know" in done.err


def test_json_is_the_report(invoke: Invoke, pruning: Any, metareport: MetapruneReport) -> None:
    assert MetapruneReport.from_json(invoke("metaprune", "m.onnx", "--flops", "0.5", "--json").out) == metareport


def test_the_curve_is_drawn(invoke: Invoke, pruning: Any) -> None:
    assert invoke("metaprune", "m.onnx", "--flops", "0.5", "--plot", "curve.png").code == 0
    assert Path("curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_failure_comes_after_the_report(invoke: Invoke, pruning: Any) -> None:
    pruning.outcome = dataclasses.replace(pruning.outcome, failure=GuardError("accuracy fell"))
    done = invoke("metaprune", "m.onnx", "--flops", "0.5")
    assert done.code == 5
    assert "MACs" in done.out


def test_training_gets_all_networks(invoke: Invoke, training: Any) -> None:
    line = (
        "metaprune --train --models a.pt b.pt c.pt --data d.npz -o meta.safetensors --epochs 7 --milestones 2,4 --lr 0.01 --batch-size 50 "
        "--accumulate 4 --pruner-reg 0.5 --criterion weights --normalize mean --alpha 2 --layers 3 --width 16 --absolute "
        "--scale 0.05 --tolerance 0.02 --tuning 2 --augment crop-flip --seed 5 --checkpoint s"
    )
    done = invoke(*line.split())
    assert done.code == 0, done.err
    assert training.asked == MetatrainRequest(
        "a.pt",
        others=("b.pt", "c.pt"),
        output="meta.safetensors",
        config=MetatrainConfig(
            epochs=7,
            batch_size=50,
            accumulate=4,
            learning_rate=0.01,
            milestones=(2, 4),
            pruner_reg=0.5,
            criterion="weights",
            normalize="mean",
            alpha=2.0,
            relative=False,
            layers=3,
            width=16,
            scale=0.05,
            augment="crop-flip",
            tolerance=0.02,
            tuning=2.0,
            seed=5,
        ),
        data="d.npz",
        device="auto",
        checkpoint="s",
        arguments=tuple(line.split()),
    )
    assert "1 *" in done.out
    assert "1.75x" in done.out


def test_training_is_reported_and_drawn(invoke: Invoke, training: Any) -> None:
    done = invoke("metaprune", "--train", "a.pt", "--data", "d.npz", "-o", "meta.safetensors", "--json", "--plot", "curves.svg")
    assert json.loads(done.out)["chosen"] == 1
    assert "<svg" in Path("curves.svg").read_text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("m.onnx --flops 0.5 --speedup 2", "--speedup and --flops contradict each other: give one target"),
        ("m.onnx --speedup 1", "--speedup takes a number above 1, not 1"),
        ("m.onnx --flops 0.5 --epochs 3", "--epochs 3: expected two numbers, such as 2,3"),
        ("m.onnx --flops 0.5 --epochs 1,2,3", "--epochs 1,2,3: expected two numbers"),
        ("m.onnx --flops 0.5 --initial 1.3 --epochs 1,2", "--epochs 1,2: expected three numbers with --initial"),
        ("m.onnx --flops 0.5 --epochs 1,-2", "--epochs 1,-2: expected two numbers"),
        ("m.onnx --flops 0.5 --criterion weights", "--criterion weights is for --train"),
        ("m.onnx --flops 0.5 --pruner-reg 3", "--pruner-reg goes with --train"),
        ("m.onnx o.onnx --flops 0.5", "more networks go with --train: name one"),
        ("m.onnx --flops 0.5 --resume", "--resume goes with --checkpoint"),
        ("m.onnx", "say what to reach"),
        ("--train a.pt --flops 0.5 --data d.npz -o m.safetensors", "--flops has no say in --train"),
        ("--train a.pt -o m.safetensors", "--train needs the data that the networks were trained on"),
        ("--train a.pt --data d.npz", "--train writes one file: name it with -o"),
        ("--train a.pt --data d.npz -o m.onnx", "--train writes one file: name it with -o"),
        ("--train a.pt - --data d.npz -o m.safetensors", "--train learns from networks in files"),
        ("--train a.pt --data d.npz -o m.safetensors --epochs 1,2", "--epochs '1,2': expected whole numbers of epochs in --train"),
        ("--train a.pt --data d.npz -o m.safetensors --milestones 0", "--milestones '0': expected whole numbers of epochs in --train"),
    ],
)
def test_wrong_lines_are_refused(invoke: Invoke, pruning: Any, training: Any, line: str, message: str) -> None:
    done = invoke("metaprune", *line.split())
    assert done.code == 2
    assert message in done.err
    assert pruning.request is None
    assert training.request is None
