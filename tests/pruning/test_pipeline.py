"""`prune` from file to files: what is written, reported, warned of and refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from compresskit.data.dataset import Dataset
from compresskit.errors import GuardError, InputError, TargetError, UsageError
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.latency import Latency, compare
from compresskit.models.latency_file import write_table
from compresskit.models.latency_table import Table
from compresskit.models.lift import graph_from_module
from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.progress import Silent
from compresskit.pruning import goal, opened
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.cut import widths
from compresskit.pruning.pipeline import run
from compresskit.pruning.request import PruneRequest
from compresskit.report import Report
from compresskit.training import checkpoints

SAMPLE = Path(__file__).parents[2] / "sample_data"
HOUSING = Path(__file__).parents[2] / "../shared/data/tabular/california_housing.csv"
HALF = PruneConfig(target=Target("flops", 0.5), epochs=0.5, seed=5)
NO_DATA = "accuracy was not measured and nothing was trained: give --data"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _quick_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "compare", partial(compare, seconds=0.01, warmup=1))


@pytest.fixture
def small(small_net: ModelGraph, tmp_path: Path) -> str:
    """The small network as a file."""
    path = tmp_path / "small.pt"
    path.write_bytes(save_checkpoint(small_net, "pt"))
    return str(path)


@pytest.fixture
def numbers(digits: Dataset, tmp_path: Path) -> str:
    """A few digits as a file."""
    path = tmp_path / "few.npz"
    assert digits.test is not None
    np.savez(path, x_train=digits.train.x, y_train=digits.train.y, x_test=digits.test.x, y_test=digits.test.y)
    return str(path)


def macs_of(model: bytes) -> int:
    return total(load_model(model)).macs


def test_the_sample_from_file_to_files(tmp_path: Path) -> None:
    """All three formats read back as the same network, and the report says all that was done."""
    outputs = tuple(str(tmp_path / f"small{suffix}") for suffix in (".onnx", ".pt", ".safetensors"))
    request = PruneRequest(str(SAMPLE / "digits_resnet.pt"), HALF, outputs, data=str(SAMPLE / "digits.npz"), arguments=("prune", "it"))
    outcome = run(request)
    report = outcome.report
    assert (outcome.failure, outcome.standard_output) == (None, None)
    for output, name in zip(report.outputs, outputs, strict=True):
        back = load_model(name)
        assert (output.path, output.bytes, output.format) == (name, Path(name).stat().st_size, Path(name).suffix[1:])
        assert total(back).macs == report.after.macs
        if output.format != "onnx":  # where norms are folded
            assert total(back).params == report.after.parameters
            assert widths(back.module) == {row.name: row.width_after for row in report.layers}
            assert back.normalization == load_model(request.model).normalization
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        first, *others = [load_model(name).module(x) for name in outputs]
    assert all(torch.allclose(first, other, atol=1e-5) for other in others)

    assert Report.from_json(report.to_json()) == report
    assert json.loads(report.to_json())["schema_version"] == 1
    assert (report.command, report.arguments, report.seed, report.device, report.threads) == ("prune", ("prune", "it"), 5, "cpu", 1)
    assert (report.model.source, report.model.arch) == (request.model, "resnet8")
    assert (report.target.requested, report.target.reached) == (0.5, report.after.macs / report.before.macs)  # type: ignore[union-attr]
    assert report.before.accuracy is not None
    assert (report.before.accuracy.count, report.after.accuracy.count) == (500, 500)  # type: ignore[union-attr]
    assert report.parity is not None
    assert report.parity.max_abs_error < 1e-4
    assert set(report.stages) == {"read", "measure", "prune", "export", "time"}
    assert set(report.settings) == {field.name for field in fields(PruneConfig)} - {"target", "seed"} | {"normalization"}
    assert [skip.group for skip in report.skipped] == ["fc"]
    assert {"python", "torch", "onnxruntime"} < set(report.versions)


def test_the_path_of_a_search_is_reported(numbers: str) -> None:
    config = PruneConfig(target=Target("flops", 0.5), method="l1l2", epochs=0.5, seed=5)
    report = run(PruneRequest(str(SAMPLE / "digits_resnet.pt"), config, (), data=numbers)).report
    assert Report.from_json(report.to_json()) == report
    assert (report.settings["method"], report.path[-1].done) == ("l1l2", 1.0)
    assert report.path[-1].cost == pytest.approx(0.5, abs=0.2)


def test_bytes_go_in_and_come_out(small_net: ModelGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = export_onnx(small_net).SerializeToString()
    outcome = run(PruneRequest(model, HALF, ("-",)))
    assert outcome.standard_output is not None
    onnx.checker.check_model(onnx.load_from_string(outcome.standard_output), full_check=True)
    assert macs_of(outcome.standard_output) == outcome.report.after.macs < macs_of(model)
    assert [(output.path, output.bytes) for output in outcome.report.outputs] == [("-", len(outcome.standard_output))]
    assert list(tmp_path.iterdir()) == []
    assert outcome.report.warnings[0] == NO_DATA


def test_a_fixed_batch_stays_fixed(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(8, 40), nn.ReLU(), nn.Linear(40, 3))
    model = export_onnx(graph_from_module(net, [TensorSpec("x", (4, 8))], source="four", free_batch=False)).SerializeToString()
    outcome = run(PruneRequest(model, HALF, ("-",)))
    assert outcome.standard_output is not None
    assert load_model(outcome.standard_output).inputs[0].shape == (4, 8)
    assert outcome.report.after.latency is not None
    assert outcome.report.after.latency.batch == 4


@pytest.mark.parametrize(
    ("quantity", "value", "unit", "figure"),
    [("flops", 9e3, "MACs", "macs"), ("params", 3e3, "parameters", "parameters"), ("size", 1e4, "bytes", "bytes")],
)
def test_a_count_is_reported_as_a_count(small: str, quantity: Any, value: float, unit: str, figure: str) -> None:
    report = run(PruneRequest(small, replace(HALF, target=Target(quantity, value)))).report
    assert report.target is not None
    assert (report.target.kind, report.target.requested, report.target.unit) == (quantity, value, unit)
    assert report.target.reached == getattr(report.after, figure) < getattr(report.before, figure)
    assert report.target.reached == pytest.approx(value, rel=0.1)


def test_what_a_guard_fails_is_written_all_the_same(numbers: str, tmp_path: Path) -> None:
    config = replace(HALF, target=Target("flops", 0.05), criterion="random", floor=0.0, epochs=0.0, max_drop=0.01)
    trained = PruneRequest(str(SAMPLE / "digits_resnet.pt"), config, (str(tmp_path / "a.onnx"), "-"), data=numbers)
    outcome = run(trained)
    assert isinstance(outcome.failure, GuardError)
    assert str(outcome.failure).startswith("accuracy fell from ")
    assert str(outcome.failure).endswith("where --max-drop allows 0.01: train longer, or allow more")
    assert (tmp_path / "a.onnx").read_bytes() == outcome.standard_output
    assert [output.path for output in outcome.report.outputs] == [str(tmp_path / "a.onnx"), "-"]
    assert run(replace(trained, config=replace(config, max_drop=1.0), outputs=())).failure is None
    with pytest.raises(UsageError, match="--max-drop needs --data"):
        run(replace(trained, data=None))


def test_a_target_out_of_reach_fails_and_leaves_the_nearest(small: str, tmp_path: Path) -> None:
    outcome = run(PruneRequest(small, replace(HALF, target=Target("flops", 0.05), floor=0.5), (str(tmp_path / "a.onnx"),)))
    assert isinstance(outcome.failure, TargetError)
    assert str(outcome.failure).startswith("--flops: 0.0500 of the model is out of reach, 0.")
    assert macs_of((tmp_path / "a.onnx").read_bytes()) == outcome.report.after.macs
    assert len(outcome.report.outputs) == 1
    assert not any("nearest" in warning for warning in outcome.report.warnings)


def test_a_near_miss_is_a_warning(line_net: ModelGraph, tmp_path: Path) -> None:
    path = tmp_path / "line.pt"
    path.write_bytes(save_checkpoint(line_net, "pt"))
    outcome = run(PruneRequest(str(path), replace(HALF, round_to=16)))
    assert outcome.failure is None
    assert any(warning.startswith("the nearest to 0.5000 of the model that whole channels allow is 0.") for warning in outcome.report.warnings)


def test_a_dry_run_leaves_everything_as_it_was(small: str, numbers: str, tmp_path: Path) -> None:
    kept = tmp_path / "run.checkpoint"
    kept.write_bytes(b"of another run")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    config = replace(HALF, max_drop=0.0, target=Target("flops", 0.1))
    request = PruneRequest(small, config, (str(tmp_path / "a.onnx"), "-"), data=numbers, checkpoint=str(kept), dry_run=True)
    outcome = run(request)
    assert (outcome.failure, outcome.standard_output, outcome.report.outputs) == (None, None, ())
    assert outcome.report.warnings[0] == f"dry run: {tmp_path / 'a.onnx'}, - would be written"
    assert outcome.report.settings["epochs"] == 0
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_sparsity_is_reported_as_it_is(tmp_path: Path) -> None:
    """The first layer has one input: it cannot take the pattern."""
    config = PruneConfig(sparsity=0.5, pattern="2:4", seed=5)
    outcome = run(PruneRequest(str(SAMPLE / "digits_resnet.pt"), config, (str(tmp_path / "a.onnx"),)))
    report = outcome.report
    assert (outcome.failure, report.after.macs, report.target.kind) == (None, report.before.macs, "sparsity")  # type: ignore[union-attr]
    assert 0.49 < report.target.reached < 0.5  # type: ignore[union-attr]
    assert report.after.nonzero is not None
    assert report.before.nonzero is not None
    assert report.after.nonzero < 0.55 * report.before.nonzero
    zeros = sum(int((onnx.numpy_helper.to_array(tensor) == 0).sum()) for tensor in onnx.load(tmp_path / "a.onnx").graph.initializer)
    assert zeros >= report.before.nonzero - report.after.nonzero
    assert report.warnings[0] == NO_DATA
    assert report.warnings[1].startswith("1 layer cannot take pattern 2:4 and stayed dense: 0.49")
    assert not any("channels" in warning for warning in report.warnings)


@pytest.mark.parametrize(("round_to", "advice"), [(1, "; try --round-to auto"), (8, "")])
def test_fewer_macs_that_take_longer_are_warned_of(small: str, monkeypatch: pytest.MonkeyPatch, round_to: int, advice: str) -> None:
    monkeypatch.setattr(opened, "compare", lambda *_, **__: (Latency(1.0, 1.1, 9, 1, 1), Latency(1.5, 1.6, 9, 1, 1)))
    warnings = run(PruneRequest(small, replace(HALF, round_to=round_to))).report.warnings
    (slower,) = [warning for warning in warnings if "slower" in warning]
    assert slower.startswith("fewer MACs, but slower in ONNX Runtime here (1.5 ms, 1 ms before)")
    assert ("--round-to auto" in slower) == bool(advice)


def test_rounding_may_be_left_to_this_machine(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "preferred_multiple", lambda **_: 4)
    report = run(PruneRequest(small, replace(HALF, round_to=0))).report
    assert report.settings["round_to"] == 4
    assert all(row.width_after % 4 == 0 for row in report.layers if row.width_after != row.width_before)


@pytest.fixture
def table(small_net: ModelGraph, table_of: Callable[[ModelGraph], Table], tmp_path: Path) -> str:
    """A latency table of another machine as a file."""
    path = tmp_path / "phone.json"
    write_table(replace(table_of(small_net), machine="a phone"), path, force=False)
    return str(path)


def test_a_latency_is_predicted_where_it_cannot_be_measured(small: str, table: str, tmp_path: Path) -> None:
    output = str(tmp_path / "out.onnx")
    report = run(PruneRequest(small, PruneConfig(target=Target("latency", 0.6)), (output,), table=table)).report
    assert report.target is not None
    assert (report.target.kind, report.target.unit, report.tries) == ("latency", "fraction", ())
    assert report.target.reached == pytest.approx(0.6, abs=0.1)
    assert f"latencies are predicted for a phone from {table}: measure the model there" in report.warnings


def test_a_latency_of_this_machine_is_measured(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(goal, "measured_latency", lambda *_, **__: Latency(1e-3, 1e-3, 1, 1))
    request = PruneRequest(small, PruneConfig(target=Target("latency", 1e-3, absolute=True)), (str(tmp_path / "out.onnx"),))
    with pytest.raises(TargetError, match=r"--latency 0.001ms is out of reach: the part that cannot be cut takes"):
        run(request)
    assert [path.name.startswith("latency-") for path in (tmp_path / "cache/compresskit").iterdir()] == [True]
    assert not (tmp_path / "out.onnx").exists()


def test_only_what_is_fresh_is_pruned_at_initialization(small: str, tmp_path: Path) -> None:
    output = str(tmp_path / "out.onnx")
    fresh = replace(HALF, method="magnitude", init=True)
    with pytest.raises(UsageError, match=r"--init prunes a network before training, and .* holds weights: drop --init, or name an architecture"):
        run(PruneRequest(small, fresh, (output,)))
    report = run(PruneRequest("resnet8", replace(fresh, target=Target("params", 0.1), pattern="unstructured"), (output,))).report
    assert report.target is not None
    assert (report.target.kind, report.target.reached) == ("params", pytest.approx(0.1, abs=1e-3))
    assert report.after.nonzero is not None


def test_a_table_goes_with_a_latency(small: str, table: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--table says how long operators take: it goes with --latency"):
        run(PruneRequest(small, HALF, (str(tmp_path / "out.onnx"),), table=table))


def test_only_large_models_get_all_threads_unasked(small: str) -> None:
    assert run(PruneRequest(small, HALF)).report.threads == 1
    assert run(PruneRequest(small, HALF, threads=2)).report.threads == 2


def test_data_without_a_test_split_are_said_to_be(small: str, small_net: ModelGraph, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "read_data", lambda *_, **__: replace(digits, test=None))
    report = run(PruneRequest(small, replace(HALF, epochs=0.0), data="stands in")).report
    assert report.warnings[0] == "the data have no test split: accuracy was measured on the validation split"
    assert report.after.accuracy is not None
    assert report.after.accuracy.count == len(digits.validation)


def test_data_need_a_model_of_one_input(tmp_path: Path, numbers: str) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 8), nn.Linear(4, 8)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.one(x) + self.two(y)

    graph = graph_from_module(Sum(), [TensorSpec("x", (None, 4)), TensorSpec("y", (None, 4))], source="two")
    with pytest.raises(InputError, match="has 2 inputs: --data serves models with one"):
        run(PruneRequest(save_checkpoint(graph, "pt"), HALF, data=numbers))


@pytest.mark.skipif(not HOUSING.exists(), reason="the shared data are not here")
def test_a_regression_on_a_table(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    path = tmp_path / "houses.pt"
    path.write_bytes(save_checkpoint(graph_from_module(net, [TensorSpec("x", (None, 13))], source="houses"), "pt"))
    config = replace(HALF, epochs=0.2, learning_rate=1e-3, optimizer="adamw")
    request = PruneRequest(str(path), config, (str(tmp_path / "a.onnx"),), data=str(HOUSING), label_column="median_house_value")
    report = run(request).report
    assert report.before.accuracy is not None
    assert report.after.accuracy is not None
    assert (report.after.accuracy.metric, report.after.accuracy.low) == ("rmse", None)
    assert 0 < report.after.accuracy.value < report.before.accuracy.value * 1.01
    assert Report.from_json(report.to_json()) == report


class Killed(BaseException):
    """What a signal handler raises."""


class Killer(Silent):
    """A progress that raises in one training step."""

    def __init__(self, deadly: int) -> None:
        self.left = deadly

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.left -= steps
        if self.left < 0:
            raise Killed


def test_checkpoints_go_when_the_run_is_over_and_stay_when_it_is_not(small: str, numbers: str, tmp_path: Path) -> None:
    kept = tmp_path / "run"
    request = PruneRequest(small, replace(HALF, steps=2, epochs=2.0), (str(tmp_path / "a.onnx"),), data=numbers, checkpoint=str(kept))
    with pytest.raises(Killed):
        run(request, Killer(3))
    assert checkpoints.exists(tmp_path / "run.1") or checkpoints.exists(kept)
    assert not (tmp_path / "a.onnx").exists()
    run(replace(request, resume=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "few.npz", "small.pt"]


def test_a_multiple_is_not_measured_again_where_a_training_goes_on(small: str, numbers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second measurement finds another, and with it the model would have other widths."""
    config = replace(HALF, steps=2, epochs=2.0, round_to=0)
    request = PruneRequest(small, config, (str(tmp_path / "a.onnx"),), data=numbers, checkpoint=str(tmp_path / "run"))
    measured = iter((4, 1))
    monkeypatch.setattr(opened, "preferred_multiple", lambda threads: next(measured))
    with pytest.raises(Killed):
        run(request, Killer(3))
    resumed = run(replace(request, resume=True))
    assert resumed.report.settings["round_to"] == 4
    whole = run(replace(request, config=replace(config, round_to=4), outputs=(str(tmp_path / "b.onnx"),), checkpoint=None))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert whole.report.path == resumed.report.path


def test_a_training_of_other_widths_is_another(small: str, numbers: str, tmp_path: Path) -> None:
    request = PruneRequest(small, replace(HALF, epochs=2.0, round_to=4), (str(tmp_path / "a.onnx"),), data=numbers, checkpoint=str(tmp_path / "run"))
    with pytest.raises(Killed):
        run(request, Killer(3))
    with pytest.raises(UsageError, match=r"run is of another run, different in .*round_to: repeat its settings"):
        run(replace(request, config=replace(request.config, round_to=1), resume=True))


def test_a_process_ended_in_mid_training_continues_to_the_same_bytes(tmp_path: Path) -> None:
    model, data, kept = SAMPLE / "digits_resnet.pt", SAMPLE / "digits.npz", tmp_path / "run"
    epochs = 2.0
    line = ["prune", model, "--flops", "0.5", "--data", data, "--epochs", str(epochs), "--seed", "5", "--checkpoint", kept, "-o", tmp_path / "a.onnx"]
    process = subprocess.Popen([sys.executable, "-m", "compresskit.cli", *map(str, line), "-v"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("train" in entry for entry in process.stderr), "training never began"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]

    config = PruneConfig(target=Target("flops", 0.5), epochs=epochs, seed=5)
    whole = run(PruneRequest(str(model), config, ("-",), data=str(data)))
    resumed = run(PruneRequest(str(model), config, ("-",), data=str(data), checkpoint=str(kept), resume=True))
    assert resumed.standard_output == whole.standard_output
    assert list(tmp_path.iterdir()) == []
