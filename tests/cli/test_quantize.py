"""`compresskit quantize` up to the library and back: what it asks for, what it refuses before any work, what it prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from compresskit.cli.quantize import Calibration
from compresskit.errors import GuardError, InputError
from compresskit.progress import SILENT, Progress
from compresskit.quantization.config import QuantizeConfig, QuantizeRequest
from compresskit.quantization.report import Figures, Integers, LayerRow, QuantizeOutcome, QuantizeReport
from compresskit.report import Accuracy, Latency, ModelInfo, ModelInput, Output, Skipped

Invoke = Callable[..., Any]


@pytest.fixture
def report() -> QuantizeReport:
    """What a run might say."""
    row = LayerRow("layer0.conv", "Conv", 8, "nearest", 8, -1.5, 2.25, 0.0004, 41.2, 55.6, 9280, 2576)
    rows = (row, *(dataclasses.replace(row, name=f"layer{index}.conv", weight_sqnr=41.0 - index) for index in range(1, 11)))
    head = LayerRow("head", "Gemm", 8, "nearest", None, None, None, None, None, None, 2600, 810)
    before = Figures(1_083_000, Accuracy(0.915, 0.9069, 0.9224, 5000), Latency(0.486, 0.79, 1, 1))
    return QuantizeReport(
        command="quantize",
        arguments=("quantize", "m.onnx", "--data", "d.npz"),
        versions={"python": "3.11.7"},
        seed=7,
        threads=1,
        device="cpu",
        model=ModelInfo("m.onnx", None, (ModelInput("x", (None, 3, 32, 32), "float32"),)),
        settings={"weights": 8},
        scheme="W8A8",
        weights_are="integers",
        activations_are="integers",
        before=before,
        after=Figures(309_300, Accuracy(0.9162, 0.9082, 0.9236, 5000), Latency(0.223, 0.423, 1, 1)),
        speedup=2.179,
        layers=(*rows, head),
        skipped=tuple(Skipped(f"node{index}", "LSTM has no integer kernel in ONNX Runtime") for index in range(7)),
        integers=Integers(29, 1_097_984, 0.99999, 1),
        stages={"quantize": 1.25, "time": 2.0},
        warnings=("one thing to know",),
        outputs=(Output("m.int8.onnx", "onnx", 309_300),),
    )


@dataclass
class Pipeline:
    """Stands in for the library."""

    outcome: QuantizeOutcome
    error: BaseException | None = None
    asked: QuantizeRequest | None = None

    def __call__(self, request: QuantizeRequest, progress: Progress = SILENT) -> QuantizeOutcome:
        self.asked = request
        if self.error is not None:
            raise self.error
        return self.outcome


@pytest.fixture
def pipeline(report: QuantizeReport, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    stand_in = Pipeline(QuantizeOutcome(report))
    monkeypatch.setattr("compresskit.quantization.pipeline.run", stand_in)
    return stand_in


def test_the_choices_are_what_is_registered() -> None:
    from compresskit.quantization.ranges import METHODS

    assert sorted(get_args(Calibration)) == sorted(METHODS)


def test_what_is_not_said_is_the_library_s_default(invoke: Invoke, pipeline: Pipeline) -> None:
    invoke("quantize", "m.onnx", "--seed", "3")
    arguments = ("quantize", "m.onnx", "--seed", "3")
    assert pipeline.asked == QuantizeRequest("m.onnx", QuantizeConfig(seed=3), outputs=("m.int8.onnx",), device="auto", arguments=arguments)


def test_everything_that_is_said_arrives(invoke: Invoke, pipeline: Pipeline) -> None:
    line = (
        "quantize w.pth --weights 4 --activations 6 --max-drop 0.01 --require-speedup 1.2 --calibration entropy --samples 99 --rounding learned "
        "--equalize no --reduce-range yes --data d.csv "
        "--label-column y --mean .4,.5 --std .2,.25 --arch nets:make --input 3,32,32 --trust --max-bytes 1.5GB "
        "-o a.onnx -o b.onnx -f -T 2 --seed 9 --dry-run"
    )
    assert invoke(*line.split()).code == 0
    config = QuantizeConfig(
        4, 6, calibration="entropy", samples=99, rounding="learned", equalize="no", reduce_range=True, max_drop=0.01, require_speedup=1.2, seed=9
    )
    assert pipeline.asked == QuantizeRequest(
        model="w.pth",
        config=config,
        outputs=("a.onnx", "b.onnx"),
        data="d.csv",
        arch="nets:make",
        input_shape=(3, 32, 32),
        mean=(0.4, 0.5),
        std=(0.2, 0.25),
        label_column="y",
        trust=True,
        max_bytes=1_500_000_000,
        device="auto",
        threads=2,
        force=True,
        dry_run=True,
        arguments=tuple(line.split()),
    )


def test_what_is_said_of_training_arrives(invoke: Invoke, pipeline: Pipeline) -> None:
    line = (
        "quantize net.pt --weights 4 --activations 4 --edges 8 --method lsq --data d.npz --epochs 2.5 --lr 0.01 --batch-size 32 "
        "--optimizer sgd --schedule cosine --label-smoothing 0.1 --augment none --distill 0.5 --checkpoint state --checkpoint-minutes 2 --resume "
        "--device cpu --seed 1"
    )
    assert invoke(*line.split()).code == 0
    config = QuantizeConfig(
        4,
        4,
        method="lsq",
        edges=8,
        epochs=2.5,
        learning_rate=0.01,
        batch_size=32,
        optimizer="sgd",
        schedule="cosine",
        label_smoothing=0.1,
        augment="none",
        distill=0.5,
        seed=1,
    )
    request = QuantizeRequest("net.pt", config, outputs=("net.w4a4.onnx",), data="d.npz", arguments=tuple(line.split()))
    assert pipeline.asked == dataclasses.replace(request, checkpoint="state", checkpoint_minutes=2, resume=True, device="cpu")


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("sub/net.v2.pt", "sub/net.v2.int8.onnx"),
        ("resnet20 --weights 4", "resnet20.w4.onnx"),
        ("resnet20 --weights 4 --codebook --data d.npz", "resnet20.w4-codebook.onnx"),
        ("nets.py:make_net --weights 4 --data d.npz", "make_net.w4a8.onnx"),
        ("pkg.nets:make_net --data d.npz", "make_net.int8.onnx"),
    ],
)
def test_the_default_output_says_the_width(invoke: Invoke, pipeline: Pipeline, line: str, output: str) -> None:
    Path("sub").mkdir()
    Path("sub/net.v2.pt").touch()
    invoke("quantize", *line.split())
    assert pipeline.asked is not None
    assert pipeline.asked.outputs == (output,)


def test_a_pipe_in_is_a_pipe_out(invoke: Invoke, pipeline: Pipeline, report: QuantizeReport, capfdbinary: Any) -> None:
    pipeline.outcome = QuantizeOutcome(report, standard_output=b"\0model\xff")
    done = invoke("quantize", "-", stdin=b"bytes of a model")
    assert pipeline.asked is not None
    assert (pipeline.asked.model, pipeline.asked.outputs) == (b"bytes of a model", ("-",))
    assert capfdbinary.readouterr().out == b"\0model\xff"
    assert (done.code, done.out, "latency" in done.err) == (0, "", True)


NO_INTEGER = "Input should be a valid integer, unable to parse string as an integer"
TOO_MUCH = "Input should be less than or equal to 1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("m.onnx --weights 1", "--weights takes 2 to 16 bits, not 1"),
        ("m.onnx --weights 17", "--weights takes 2 to 16 bits, not 17"),
        ("m.onnx --data d --activations 1", "--activations takes 2 to 16 bits, not 1"),
        ("m.onnx --codebook --weights 9", "--codebook takes weights of at most 8 bits, not 9"),
        ("m.onnx --data d --codebook --activations 4", "--activations has no say in --codebook: leave one of them out"),
        ("m.onnx --weights 4.5", f"invalid value for '--weights': {NO_INTEGER}; see compresskit quantize --help"),
        ("m.onnx --require-speedup 0", "--require-speedup takes a ratio above 0 such as 1.2, not 0"),
        ("m.onnx --require-speedup nan", "--require-speedup nan: expected a finite number"),
        ("m.onnx --activations 4", "--activations goes with --data"),
        ("m.onnx --samples 4", "--samples goes with --data"),
        ("m.onnx --calibration mse", "--calibration goes with --data"),
        ("m.onnx --method lsq", "--method lsq trains: give --data"),
        ("m.onnx --data d --epochs 3", "--epochs goes with --method uniform, ste, dorefa or lsq"),
        ("m.onnx --data d --checkpoint c", "--checkpoint goes with --method uniform, ste, dorefa or lsq"),
        ("m.onnx --data d --method ste --resume", "--resume goes with --checkpoint: say which file to go on from"),
        ("m.onnx --data d --method ste --rounding learned", "--rounding has no say in --method ste: leave one of them out"),
        ("m.onnx --data d --method ste --codebook", "--codebook has no say in --method ste: leave one of them out"),
        (
            "m.onnx --data d --method ste --distill 2",
            "invalid value for '--distill': Input should be less than or equal to 1; see compresskit quantize --help",
        ),
        ("m.onnx --data d --edges 1", "--edges takes 2 to 16 bits, not 1"),
        ("m.onnx -o a.pt", "cannot write a.pt: quantized models are written as .onnx"),
        ("m.onnx -o exists.onnx", "exists.onnx exists: use --force to replace it"),
        ("exists.onnx -f -o exists.onnx", "exists.onnx is an input, and inputs are never overwritten: name another file with -o"),
        ("m.onnx -f --data exists.onnx --report exists.onnx", "exists.onnx is an input, and inputs are never overwritten: name another file with -o"),
        ("m.onnx -c --json", "--json and the model both want the standard output: name a file with -o, or the report's with --report"),
        ("-", "no model on the standard input: it is empty"),
    ],
)
def test_refused_before_any_work(invoke: Invoke, pipeline: Pipeline, arguments: str, message: str) -> None:
    Path("exists.onnx").write_bytes(b"old")
    done = invoke("quantize", *arguments.split())
    assert (done.code, done.out, done.err) == (2, "", f"compresskit: error: {message}\n")
    assert pipeline.asked is None


def test_json_and_report_are_the_report(invoke: Invoke, pipeline: Pipeline, report: QuantizeReport) -> None:
    done = invoke("quantize", "m.onnx", "--json", "--report", "r.json")
    assert QuantizeReport.from_json(done.out) == QuantizeReport.from_json(Path("r.json").read_text()) == report
    assert done.err == "compresskit: warning: one thing to know\n"


def test_a_guard_that_fails_still_shows_what_was_reached(invoke: Invoke, pipeline: Pipeline, report: QuantizeReport) -> None:
    pipeline.outcome = QuantizeOutcome(report, failure=GuardError("accuracy fell by 0.02"))
    done = invoke("quantize", "m.onnx", "--json")
    assert (done.code, QuantizeReport.from_json(done.out)) == (5, report)
    assert done.err.splitlines()[-1] == "compresskit: error: accuracy fell by 0.02"


def test_the_library_s_errors_end_it(invoke: Invoke, pipeline: Pipeline) -> None:
    pipeline.error = InputError("m.onnx: no such file")
    done = invoke("quantize", "m.onnx")
    assert (done.code, done.out, done.err) == (3, "", "compresskit: error: m.onnx: no such file\n")


def test_the_tables(invoke: Invoke, pipeline: Pipeline) -> None:
    brief, full = invoke("quantize", "m.onnx").out, invoke("quantize", "m.onnx", "-v").out
    for text in (
        "28.6%",
        "+0.12 pt",
        "2.18x as fast",
        "W8A8: weights are integers",
        "99.9990% of 1,097,984 integers",
        "wrote m.int8.onnx (onnx, 309.3 kB)",
    ):
        assert text in brief
    # Those that lost most come first, and the rest is counted.
    assert brief.index("layer10.conv") < brief.index("layer3.conv")
    assert ("layer0.conv" in brief, "… 4 more (-v)" in brief, "… 2 more (-v)" in brief) == (False, True, True)
    assert all(f"layer{index}.conv" in full and f"node{index % 7}" in full for index in range(11))


def test_how_it_was_trained_is_said(invoke: Invoke, pipeline: Pipeline, report: QuantizeReport) -> None:
    assert "trained" not in invoke("quantize", "m.onnx").out
    pipeline.outcome = QuantizeOutcome(dataclasses.replace(report, settings={"weights": 4, "method": "lsq", "epochs": 2.5}))
    assert "trained under quantization: lsq, 2.5 epochs" in invoke("quantize", "m.onnx").out


def test_what_was_not_measured_is_not_shown(invoke: Invoke, pipeline: Pipeline, report: QuantizeReport) -> None:
    before, after = (dataclasses.replace(figures, accuracy=None) for figures in (report.before, report.after))
    bare = dataclasses.replace(report, before=before, after=after, layers=(), skipped=(), integers=None, warnings=(), outputs=())
    pipeline.outcome = QuantizeOutcome(bare)
    done = invoke("quantize", "m.onnx")
    assert (done.code, "accuracy" in done.out, "checked" in done.out, "left in float" in done.out) == (0, False, False, False)
    errors = tuple(dataclasses.replace(figures, accuracy=Accuracy(2.5, None, None, 40, "rmse")) for figures in (before, after))
    pipeline.outcome = QuantizeOutcome(dataclasses.replace(bare, before=errors[0], after=errors[1]))
    assert "rmse of 40 test samples" in invoke("quantize", "m.onnx").out
