"""Accuracy over MACs: every point is what one `prune` gives, is there when the next begins, and is not made twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from compresskit.data.dataset import Dataset
from compresskit.errors import GuardError, InputError, TargetError, UsageError
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph
from compresskit.models.latency import compare
from compresskit.models.load import load_model
from compresskit.pruning import curve as curves
from compresskit.pruning import opened
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.curve import curve, run
from compresskit.pruning.curve_config import CurveRequest
from compresskit.pruning.curve_report import CurveReport
from compresskit.pruning.engine import prune
from compresskit.pruning.request import PruneRequest

FRACTIONS = (0.8, 0.6, 0.4)
CONFIG = PruneConfig(target=Target("flops", 0.5), epochs=0.2, seed=5, floor=0.0)

pytestmark = pytest.mark.usefixtures("one_thread")
Make = Callable[..., CurveRequest]


@pytest.fixture(autouse=True)
def _quick_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "compare", partial(compare, seconds=0.01, warmup=1))


@pytest.fixture
def make(small_net: ModelGraph, tmp_path: Path) -> Make:
    """Asks for a curve of the small network, data-free unless told otherwise."""
    model = tmp_path / "small.pt"
    model.write_bytes(save_checkpoint(small_net, "pt"))

    def request(fractions: tuple[float, ...] = FRACTIONS, *, config: PruneConfig = CONFIG, **more: Any) -> CurveRequest:
        return CurveRequest(PruneRequest(str(model), config=config, **more), fractions, tmp_path / "out", "small")

    return request


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The fractions that were pruned to."""
    asked: list[float] = []

    def noted(*arguments: Any, **more: Any) -> Any:
        asked.append(arguments[2].target.value)
        return prune(*arguments, **more)

    monkeypatch.setattr(curves, "prune", noted)
    return asked


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_each_point_is_what_prune_gives(digits_net: ModelGraph, digits: Dataset) -> None:
    """To the bit, and in falling order; the graph itself is left as it was."""
    before = total(digits_net)
    found = dict(curve(digits_net, digits, CONFIG, (0.3, 0.6)))
    assert list(found) == [0.6, 0.3]
    for fraction, result in found.items():
        alone = prune(digits_net, digits, replace(CONFIG, target=Target("flops", fraction)))
        states = result.graph.module.state_dict(), alone.graph.module.state_dict()
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
        assert result.reached == pytest.approx(fraction, rel=0.01)
    assert total(digits_net) == before


def test_models_table_and_state_are_there(make: Make) -> None:
    """MACs fall, each target is within 1% where whole channels allow, and every file is the model that the report says."""
    request = make()
    outcome = run(request)
    report = outcome.report
    assert outcome.failure is None
    assert [point.asked for point in report.points] == list(FRACTIONS)
    macs = [report.whole.macs, *(point.measure.macs for point in report.points)]
    assert macs == sorted(macs, reverse=True)
    assert sorted(contents(request.folder)) == ["small.0.40.onnx", "small.0.60.onnx", "small.0.80.onnx", "small.curve.json"]
    for point in report.points:
        assert abs(point.reached - point.asked) <= 0.01 * point.asked or "the nearest to" in point.warnings[0]
        assert point.reached == point.measure.macs / report.whole.macs
        assert total(load_model(point.output.path)).macs == point.measure.macs
        assert point.parity.max_abs_error < 1e-4
        assert point.measure.latency is not None
    assert report.outputs == tuple(point.output for point in report.points)
    assert CurveReport.from_json(request.state.read_text()) == report == CurveReport.from_json(report.to_json())
    assert report.warnings[0] == "accuracy was not measured and nothing was trained: give --data"
    assert report.warnings[1:] == tuple(f"{point.asked:.2f}: {warning}" for point in report.points for warning in point.warnings)


def test_accuracies_with_data(make: Make, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "read_data", lambda *_, **__: digits)
    report = run(make((0.5,), data="digits.npz")).report
    assert [measure.accuracy is not None for measure in (report.whole, report.points[0].measure)] == [True, True]
    assert not any("accuracy" in warning for warning in report.warnings)


def test_an_interrupted_curve_goes_on(make: Make, monkeypatch: pytest.MonkeyPatch, made: list[float]) -> None:
    """What is there stays, what is missing is made, and the end is that of one run."""
    whole = run(make()).report
    files = contents(make().folder)
    for path in make().folder.iterdir():
        path.unlink()
    made.clear()
    with monkeypatch.context() as patch:
        patch.setattr(curves, "_longer", _stop_at_second(curves._longer))
        with pytest.raises(KeyboardInterrupt):
            run(make())
    assert sorted(contents(make().folder)) == ["small.0.80.onnx", "small.curve.json"]
    report = run(make(resume=True)).report
    assert made == [0.8, 0.6, 0.6, 0.4]
    assert [point.digest for point in report.points] == [point.digest for point in whole.points]
    assert {name: content for name, content in contents(make().folder).items() if name.endswith(".onnx")} == {
        name: content for name, content in files.items() if name.endswith(".onnx")
    }


def _stop_at_second(function: Callable[..., CurveReport]) -> Callable[..., CurveReport]:
    calls = iter(range(9))

    def stopping(*arguments: Any) -> CurveReport:
        if next(calls):
            raise KeyboardInterrupt
        return function(*arguments)

    return stopping


def test_a_curve_gets_more_points(make: Make, made: list[float]) -> None:
    run(make((0.8,)))
    report = run(make((0.9, 0.8, 0.7), resume=True)).report
    assert made == [0.8, 0.9, 0.7]
    assert [point.asked for point in report.points] == [0.9, 0.8, 0.7]


def test_a_model_that_is_missing_is_made_again(make: Make, made: list[float]) -> None:
    run(make())
    make().model(0.6).unlink()
    run(make(resume=True))
    assert made == [*FRACTIONS, 0.6]


def test_a_measured_multiple_of_widths_is_kept(make: Make, monkeypatch: pytest.MonkeyPatch, made: list[float]) -> None:
    """The measurement of another day may find another; the points of one curve share one."""
    measured = iter((4, 16))
    monkeypatch.setattr(opened, "preferred_multiple", lambda **_: next(measured))
    auto = replace(CONFIG, round_to=0)
    run(make((0.8,), config=auto))
    report = run(make((0.8, 0.6), config=auto, resume=True)).report
    assert (report.settings["round_to"], made) == (4, [0.8, 0.6])


@pytest.mark.parametrize("asked", [None, 8])
def test_a_multiple_of_widths_that_was_said_is_compared(make: Make, asked: int | None) -> None:
    run(make((0.8,), config=replace(CONFIG, round_to=4)))
    with pytest.raises(UsageError, match="different in round_to"):
        run(make(config=replace(CONFIG, round_to=asked), resume=True))


def test_another_curve_is_not_gone_on_from(make: Make) -> None:
    run(make((0.8,)))
    with pytest.raises(UsageError, match="different in criterion, seed: repeat its settings, or remove it"):
        run(make(config=replace(CONFIG, criterion="l1", seed=6), resume=True))
    make().state.write_text("{}")
    with pytest.raises(InputError, match="does not say how far a curve is"):
        run(make(resume=True))


@pytest.mark.parametrize("name", ["small.0.40.onnx", "small.curve.json"])
def test_what_exists_is_refused_before_anything_is_pruned(make: Make, made: list[float], name: str) -> None:
    request = make()
    request.folder.mkdir()
    (request.folder / name).write_bytes(b"old")
    with pytest.raises(UsageError, match=f"{name} exists: use --force to replace it"):
        run(request)
    assert (made, contents(request.folder)) == ([], {name: b"old"})
    run(make(force=True))
    assert contents(request.folder)[name] != b"old"


def test_a_model_that_another_wrote_is_refused_while_going_on(make: Make, made: list[float]) -> None:
    run(make())
    make().model(0.6).write_bytes(b"another's")
    made.clear()
    with pytest.raises(UsageError, match=r"small\.0\.60\.onnx exists"):
        run(make(resume=True))
    assert made == []


def test_it_ends_where_no_more_can_be_cut(make: Make) -> None:
    """The first point out of reach is kept as near as it comes; going on changes nothing."""
    config = replace(CONFIG, floor=0.7)
    outcome = run(make((0.8, 0.2, 0.1), config=config))
    assert [point.asked for point in outcome.report.points] == [0.8, 0.2]
    assert isinstance(outcome.failure, TargetError)
    assert "0.2000 of the MACs is out of reach" in str(outcome.failure)
    again = run(make((0.8, 0.2, 0.1), config=config, resume=True))
    assert (again.report.points, str(again.failure)) == (outcome.report.points, str(outcome.failure))


def test_a_dry_run_leaves_nothing(make: Make) -> None:
    report = run(make(dry_run=True)).report
    assert [point.asked for point in report.points] == list(FRACTIONS)
    assert report.outputs == ()
    assert not make().folder.exists()


def test_a_dry_run_goes_on_too(make: Make, made: list[float]) -> None:
    """It trains nothing, but is asked for the same."""
    run(make((0.8,)))
    files = contents(make().folder)
    report = run(make((0.8, 0.6), resume=True, dry_run=True)).report
    assert ([point.asked for point in report.points], made) == ([0.8, 0.6], [0.8, 0.6])
    assert contents(make().folder) == files


def test_points_before_a_failure_stay(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    results = iter([prune, _diverge])
    monkeypatch.setattr(curves, "prune", lambda *arguments, **more: next(results)(*arguments, **more))
    with pytest.raises(GuardError):
        run(make())
    assert [point.asked for point in CurveReport.from_json(make().state.read_text()).points] == [0.8]
    assert make().model(0.8).is_file()


def _diverge(*_: Any, **__: Any) -> Any:
    raise GuardError("the loss is not finite")
