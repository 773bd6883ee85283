"""`compresskit recommend` up to the library and back: what it asks for, what it refuses before any work, what it prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from compresskit.cli.recommend_train import BudgetName
from compresskit.recommend.config import GenerateRequest, RecommendRequest, TrainRequest
from compresskit.recommend.methods import BUDGETS
from compresskit.recommend.report import Explained, GenerateReport, Recommendation, RecommendOutcome, RecommendReport, TrainReport
from compresskit.report import ModelInfo, Output

Invoke = Callable[..., Any]


@pytest.fixture
def report() -> RecommendReport:
    """What a run might say."""
    first = Recommendation("l1", "lsq", 0.75, 4, 32.0, 8512.0, None, 0.91, 0.85, 0.97, 0.9, 31.8)
    second = Recommendation("none", "dorefa", 0.0, 2, 16.0, 17_024.0, None, 0.7, 0.5, 0.9)
    return RecommendReport(
        command="recommend",
        arguments=("recommend", "m.pt"),
        versions={"python": "3.11.7"},
        seed=7,
        threads=1,
        settings={"top": 5},
        device="cpu",
        model=ModelInfo("m.pt", "resnet8", ()),
        predictor="cifar10.json",
        metric="top-1",
        original=0.93,
        constraints={"compression": 10.0},
        offered=520,
        met=2,
        recommended=(first, second),
        nearest=("resnet20/cifar10",),
        unlike=False,
        missing=(),
        bound=1.22,
        explained=(Explained("loss", 0.31, 0.25, -0.02),),
        warnings=("one thing to know",),
    )


@pytest.fixture
def asked(report: RecommendReport, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests that reach the library, which is not there."""
    found: list[Any] = []

    def answer(outcome: Any) -> Callable[..., Any]:
        return lambda request, progress: found.append(request) or outcome

    metrics = {"top5": 0.92, "top1": 0.66, "error": 0.01, "mae": None, "tau": 0.65, "coverage": 0.9}
    trained = TrainReport(
        command="recommend --train",
        arguments=(),
        seed=7,
        threads=1,
        settings={"budget": "small"},
        problems=12,
        trials=1500,
        tried=40,
        failed=("m: too small",) * 7,
        ignored=3,
        metrics={"predicted": metrics},
    )
    drawn = GenerateReport(
        command="recommend --generate",
        arguments=(),
        seed=7,
        threads=1,
        settings={"epochs": 20.0},
        shape=(3, 32, 32),
        count=100,
        outputs=(Output("e.npz", "npz", 1234),),
    )
    monkeypatch.setattr("compresskit.recommend.pipeline.run", answer(RecommendOutcome(report)))
    monkeypatch.setattr("compresskit.recommend.sweep.run", answer(trained))
    monkeypatch.setattr("compresskit.recommend.diffusion.pipeline.run", answer(drawn))
    return found


def test_budgets_are_the_librarys() -> None:
    assert get_args(BudgetName) == tuple(BUDGETS)


def test_what_is_said_reaches_the_library(invoke: Invoke, asked: list[Any]) -> None:
    done = invoke(
        "recommend", "m.pt", "--data", "d.npz", "--compression", "20", "--size", "200KB", "--latency", "2ms", "--verify", "2", "--seed", "3"
    )
    assert done.code == 0
    (request,) = asked
    assert isinstance(request, RecommendRequest)
    constraints = request.config.constraints
    assert (constraints.compression, constraints.size, constraints.latency, constraints.accuracy) == (20, 200_000, 2.0, None)
    assert (request.model, request.data, request.config.verify, request.config.apply, request.config.seed) == ("m.pt", "d.npz", 2, None, 3)


def test_what_a_person_reads(invoke: Invoke, asked: list[Any]) -> None:
    done = invoke("recommend", "m.pt", "--data", "d.npz", "--min-accuracy", "0.9")
    lines = done.out.splitlines()
    assert any("l1 75%" in line and "lsq W4A4" in line and "32.0x" in line and "91.00%" in line and "90.00% at 31.8x" in line for line in lines)
    assert any("2 settings of 520 meet what is asked" in line for line in lines)
    assert "nearest known problems: resnet20/cifar10" in done.out
    assert "one thing to know" in done.err


def test_a_winner_goes_beside_the_model(invoke: Invoke, asked: list[Any], tmp_path: Path) -> None:
    model = tmp_path / "m.pt"
    model.touch()
    invoke("recommend", str(model), "--data", "d.npz", "--compression", "20", "--apply", "best")
    assert asked[0].outputs == (str(tmp_path / "m.recommended.onnx"),)
    assert asked[0].config.apply == 1


def test_training_and_generating_have_requests_of_their_own(invoke: Invoke, asked: list[Any]) -> None:
    done = invoke("recommend", "--train", "--models", "nets", "--data", "a.npz", "--data", "b.npz", "-o", "p.json", "--jobs", "2")
    assert done.code == 0
    assert isinstance(asked[0], TrainRequest)
    assert (asked[0].models, asked[0].data, asked[0].output, asked[0].jobs) == ("nets", ("a.npz", "b.npz"), "p.json", 2)
    assert "1,500 trials of 12 problems, 40 of them new" in done.out or "1500 trials of 12 problems, 40 of them new" in done.out
    assert "2 more (-v)" in done.out
    done = invoke("recommend", "--generate", "100", "--data", "a.npz", "-o", "e.npz", "--input", "3,32,32")
    assert isinstance(asked[1], GenerateRequest)
    assert (asked[1].count, asked[1].input_shape, asked[1].output) == (100, (3, 32, 32), "e.npz")
    assert "100 samples of 3 x 32 x 32" in done.out


def test_every_run_of_a_training_makes_the_same_trials_unless_told_otherwise(invoke: Invoke, asked: list[Any]) -> None:
    for seed in ((), (), ("--seed", "3")):
        assert invoke("recommend", "--train", "--models", "nets", "--data", "a.npz", "-o", "p.json", *seed).code == 0
    assert [request.seed for request in asked] == [TrainRequest.seed, TrainRequest.seed, 3]


def test_the_code_that_builds_a_model_is_never_overwritten(invoke: Invoke, asked: list[Any]) -> None:
    Path("net.py").write_text("old")
    done = invoke("recommend", "w.pth", "--arch", "net.py:make", "--input", "3,8,8", "--compression", "20", "--report", "net.py", "--force")
    assert (done.code, "net.py is an input, and inputs are never overwritten" in done.err, asked) == (2, True, [])
    assert Path("net.py").read_text() == "old"


def test_models_to_train_on_are_never_overwritten(invoke: Invoke, asked: list[Any], tmp_path: Path) -> None:
    (tmp_path / "m.pt").touch()
    for output in (("-o", str(tmp_path / "m.pt")), ("-o", str(tmp_path / "p.json"), "--report", str(tmp_path / "m.pt"))):
        done = invoke("recommend", "--train", "--models", str(tmp_path), "--data", "a.npz", "--force", *output)
        assert (done.code, asked) == (2, [])
        assert "is an input" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name the model"),
        (("m.pt",), "say what to meet"),
        (("m.pt", "--compression", "20", "--data", "a", "--data", "b"), "--data may repeat with --train alone"),
        (("m.pt", "--latency", "0.5"), "--latency takes a time"),
        (("m.pt", "--compression", "2", "--apply", "worst"), "expected best, or a place"),
        (("m.pt", "--compression", "2", "-o", "x.onnx"), "--output goes with --apply"),
        (("m.pt", "--compression", "2", "--models", "nets"), "--models goes with --train"),
        (("m.pt", "--compression", "2", "--epochs", "2"), "--epochs goes with --generate"),
        (("m.pt", "--min-accuracy", "0.9", "--max-error", "0.1"), "give one"),
        (("m.pt", "--compression", "2", "--apply", "best", "-o", "x.pt"), "written as .onnx"),
        (("--train", "--models", "nets"), "--train goes with --models and --data"),
        (("--train", "--models", "nets", "--data", "a"), "name it with -o"),
        (("--train", "--compression", "3"), "--compression has no say in --train"),
        (("--train", "--threads", "3"), "--threads has no say in --train"),
        (("--generate", "5", "-o", "x.npz"), "--generate goes with --data"),
        (("--generate", "5", "--data", "a"), "name it with -o"),
        (("--generate", "5", "--data", "a", "-o", "x.npz", "--epochs", "0"), "--epochs takes a number above 0"),
        (("--generate", "5", "--explain"), "--explain has no say in --generate"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(invoke: Invoke, asked: list[Any], arguments: tuple[str, ...], said: str) -> None:
    done = invoke("recommend", *arguments)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not asked
