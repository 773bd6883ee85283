"""`compresskit prune --curve` up to the library and back: what it asks for, what it refuses before any work, what it prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compresskit.errors import TargetError
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.curve_config import CurveRequest
from compresskit.pruning.curve_report import CurveOutcome, CurvePoint, CurveReport
from compresskit.pruning.request import PruneRequest
from compresskit.report import Output, Parity, Report

Invoke = Callable[..., Any]
STDOUT = """\
model            MACs     kept   parameters                accuracy      change   latency p50 / p90
───────────────────────────────────────────────────────────────────────────────────────────────────
m.onnx         40.81M   100.0%       272.5k   92.60% [92.07, 93.10]                   1.23 / 1.5 ms
m.0.75.onnx     30.5M    74.7%       200.1k   91.80% [91.25, 92.32]    -0.80 pt        0.7 / 0.9 ms
m.0.125.onnx    5.09M    12.5%        27.2k   80.00% [79.20, 80.80]   -12.60 pt        0.2 / 0.3 ms

accuracy: top-1 of 10,000 test samples, with its 95% interval
latency: ONNX Runtime, batch 1, 2 threads
checked in ONNX Runtime: largest difference 3e-07 over 32 inputs of each model
2 models in .; m.curve.json is what --resume goes on from
seed 7, cpu, 2 threads, 21.8 s
"""


@pytest.fixture
def curve_report(report: Report) -> CurveReport:
    """A curve of two points."""
    whole, small = report.before, report.after
    assert small.accuracy is not None
    assert small.latency is not None
    measures = {
        0.75: dataclasses.replace(small, macs=30_500_000, parameters=200_100),
        0.125: dataclasses.replace(
            small,
            macs=5_090_000,
            parameters=27_200,
            accuracy=dataclasses.replace(small.accuracy, value=0.8, low=0.792, high=0.808),
            latency=dataclasses.replace(small.latency, p50_ms=0.2, p90_ms=0.3),
        ),
    }
    points = tuple(
        CurvePoint(asked, asked, False, measure, Parity(asked * 4e-7, 32), Output(f"m.{name}.onnx", "onnx", 1000), "0")
        for (asked, measure), name in zip(measures.items(), ("0.75", "0.125"), strict=True)
    )
    return CurveReport(
        command="prune",
        arguments=("prune", "m.onnx"),
        seed=7,
        threads=2,
        settings={},
        device="cpu",
        model=report.model,
        digest="0",
        whole=whole,
        points=points,
        stages={"prune": 21.75},
        warnings=("0.12: one thing to know",),
        outputs=tuple(point.output for point in points),
    )


@pytest.fixture
def curve(curve_report: CurveReport, pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library replaced."""
    pipeline.outcome = CurveOutcome(curve_report)
    monkeypatch.setattr("compresskit.pruning.curve.run", pipeline)
    return pipeline


def test_what_is_asked_for_arrives(invoke: Invoke, curve: Any) -> None:
    line = "prune nets/m.pt --curve 0.9..0.2:4 --data d.npz --criterion l1 --epochs 2 --checkpoint c.pt --seed 3 -o out/"
    assert invoke(*line.split()).code == 0
    config = PruneConfig(target=Target("flops", 0.9), criterion="l1", epochs=2.0, seed=3)
    prune = PruneRequest("nets/m.pt", config=config, data="d.npz", device="auto", checkpoint="c.pt", arguments=tuple(line.split()))
    assert curve.asked == CurveRequest(prune, (0.9, 0.67, 0.43, 0.2), Path("out"), "m")


@pytest.mark.parametrize(
    ("model", "folder", "stem"),
    [("sub/net.v2.pt", "sub", "net.v2"), ("resnet20", ".", "resnet20"), ("pkg.nets:make_net", ".", "make_net"), ("-", ".", "model")],
)
def test_models_go_beside_the_input(invoke: Invoke, curve: Any, model: str, folder: str, stem: str) -> None:
    Path("sub").mkdir()
    Path("sub/net.v2.pt").write_bytes(b"a model")
    assert invoke("prune", model, "--curve", "0.5", stdin=b"a model").code == 0
    assert (curve.asked.folder, curve.asked.stem) == (Path(folder), stem)


def test_the_table(invoke: Invoke, curve: Any) -> None:
    done = invoke("prune", "m.onnx", "--curve", "0.75,0.125", "--seed", "7")
    assert (done.code, done.out, done.err) == (0, STDOUT, "compresskit: warning: 0.12: one thing to know\n")


def test_json_report_and_drawing(invoke: Invoke, curve: Any, curve_report: CurveReport) -> None:
    done = invoke("prune", "m.onnx", "--curve", "0.75,0.125", "--json", "--report", "r.json", "--plot", "c.svg")
    assert CurveReport.from_json(done.out) == CurveReport.from_json(Path("r.json").read_text()) == curve_report
    assert Path("c.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("bare", [{"accuracy": None}, {"accuracy": None, "latency": None}])
def test_a_curve_without_data(invoke: Invoke, curve: Any, curve_report: CurveReport, bare: dict[str, None]) -> None:
    points = tuple(dataclasses.replace(point, measure=dataclasses.replace(point.measure, **bare)) for point in curve_report.points)
    curve.outcome = CurveOutcome(dataclasses.replace(curve_report, whole=dataclasses.replace(curve_report.whole, **bare), points=points))
    done = invoke("prune", "m.onnx", "--curve", "0.75,0.125", "--plot", "c.png")
    assert (done.code, "accuracy" in done.out, Path("c.png").read_bytes()[1:4]) == (0, False, b"PNG")


def test_a_point_out_of_reach_ends_it_with_4(invoke: Invoke, curve: Any, curve_report: CurveReport) -> None:
    curve.outcome = CurveOutcome(curve_report, TargetError("0.1250 is out of reach"))
    done = invoke("prune", "m.onnx", "--curve", "0.75,0.125")
    assert (done.code, done.out, done.err.splitlines()[-1]) == (4, STDOUT, "compresskit: error: 0.1250 is out of reach")


def test_going_on_takes_the_seed_that_was_drawn(invoke: Invoke, curve: Any, curve_report: CurveReport) -> None:
    Path("m.curve.json").write_text(curve_report.to_json())
    assert invoke("prune", "m.onnx", "--curve", "0.75,0.125", "--resume").code == 0
    assert (curve.asked.prune.config.seed, curve.asked.prune.resume, curve.asked.prune.force) == (7, True, False)
    invoke("prune", "m.onnx", "--curve", "0.75,0.125", "--resume", "--seed", "8")
    assert curve.asked.prune.config.seed == 8


def test_going_on_replaces_the_report_and_the_drawing(invoke: Invoke, curve: Any, curve_report: CurveReport) -> None:
    line = ("prune", "m.onnx", "--curve", "0.75,0.125", "--report", "r.json", "--plot", "c.svg")
    assert invoke(*line).code == 0
    Path("r.json").write_text("of the run before")
    assert invoke(*line).code == 2
    assert invoke(*line, "--resume").code == 0
    assert CurveReport.from_json(Path("r.json").read_text()) == curve_report


@pytest.mark.parametrize(("drawing", "code"), [("data/curve.svg", 0), ("data/curve.pdf", 0), ("data/curve.png", 2)])
def test_going_on_replaces_a_drawing_beside_the_data_that_is_none_of_them(invoke: Invoke, curve: Any, drawing: str, code: int) -> None:
    Path("data").mkdir()
    line = ("prune", "m.onnx", "--curve", "0.75,0.125", "--data", "data", "-o", "data/", "--plot", drawing)
    assert invoke(*line).code == 0
    Path(drawing).write_bytes(b"of the run before")
    assert invoke(*line, "--resume").code == code
    assert (Path(drawing).read_bytes() == b"of the run before") == (code != 0)


def test_a_dry_run_writes_nothing(invoke: Invoke, curve: Any) -> None:
    done = invoke("prune", "m.onnx", "--curve", "0.75,0.125", "--dry-run", "--plot", "c.png", "--report", "r.json")
    assert (done.code, list(Path().iterdir())) == (0, [])
    assert "dry run: 2 models would be written to ." in done.err
    assert "--resume" not in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--curve 1.5", "--curve takes fractions of the MACs to keep, as in 0.9..0.2, 0.9..0.2:5 or 0.8,0.5,0.3, not '1.5'"),
        ("--curve 0.9..0", "--curve takes fractions of the MACs to keep, as in 0.9..0.2, 0.9..0.2:5 or 0.8,0.5,0.3, not '0.9..0'"),
        ("--curve 0.5,0.5", "--curve 0.5,0.5 has 2 points: expected up to 100, each another, a hundredth apart in a span"),
        ("--curve 0.5 --flops 0.5", "--flops has no say in --curve: leave one of them out"),
        ("--curve 0.5 --latency 5ms", "--latency has no say in --curve: leave one of them out"),
        ("--curve 0.5 --sparsity 0.5", "--sparsity has no say in --curve: leave one of them out"),
        ("--curve 0.5 --max-drop 0.1", "--max-drop has no say in --curve: leave one of them out"),
        ("--curve 0.5 -c", "--stdout has no say in --curve: leave one of them out"),
        ("--curve 0.5 -o small.onnx", "--curve writes a model for every point: -o takes one folder, as in -o small/"),
        ("--curve 0.5 -o -", "--curve writes a model for every point: -o takes one folder, as in -o curve/"),
        ("--curve 0.5 -o a/ -o b/", "--curve writes a model for every point: -o takes one folder, as in -o a/"),
        ("--curve 0.5", "m.0.50.onnx exists: use --force to replace it"),
        ("--curve 0.4 --report m.0.50.onnx", "m.0.50.onnx exists: use --force to replace it"),
        ("--curve 0.5 -f --report m.curve.json", "m.curve.json is named twice as an output"),
        ("--curve 0.4 -o begun/", "begun/m.curve.json exists: go on from it with --resume, or use --force to replace it"),
        ("--curve 0.5 -f --plot c.gif", "cannot draw c.gif: the suffix decides the format, one of .png, .svg, .pdf"),
    ],
)
def test_refused_before_any_work(invoke: Invoke, curve: Any, arguments: str, message: str) -> None:
    Path("m.0.50.onnx").write_bytes(b"old")
    Path("begun").mkdir()
    Path("begun/m.curve.json").write_bytes(b"old")
    done = invoke("prune", "m.onnx", *arguments.split())
    assert (done.code, done.out, done.err) == (2, "", f"compresskit: error: {message}\n")
    assert curve.request is None
    assert Path("m.0.50.onnx").read_bytes() == b"old"
