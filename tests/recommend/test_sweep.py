"""A sweep of trials, from models and data to a predictor, and recommendations from it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from compresskit import cluster
from compresskit.data import Dataset
from compresskit.errors import InputError, TargetError, UsageError
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.graph import ModelGraph
from compresskit.models.load import load_model
from compresskit.pruning.config import PruneConfig, Target
from compresskit.pruning.engine import prune
from compresskit.recommend import sweep as sweeping
from compresskit.recommend.config import RecommendConfig, RecommendRequest, TrainRequest
from compresskit.recommend.constraints import Constraints
from compresskit.recommend.methods import BUDGETS, runs_on
from compresskit.recommend.pipeline import run
from compresskit.recommend.predictor_file import read_predictors
from compresskit.recommend.report import RecommendReport
from compresskit.recommend.settings import Setting
from compresskit.recommend.sweep import run as sweep
from compresskit.recommend.table import read_table
from compresskit.recommend.timing import latencies
from compresskit.recommend.trials import compress

SAMPLES = Path(__file__).parents[2] / "sample_data"
DIGITS = str(SAMPLES / "digits.npz")
BUDGET = replace(BUDGETS["small"], epochs=1.0, quantized_epochs=0.5, samples=300)


@pytest.fixture(scope="module")
def trained(graph: ModelGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A predictor of 6 trials on three models."""
    folder = tmp_path_factory.mktemp("sweep")
    for arch, share in (("a", 1.0), ("b", 0.6), ("c", 0.35)):
        smaller = graph if share == 1 else prune(graph, None, PruneConfig(target=Target("flops", share))).graph
        (folder / f"{arch}.pt").write_bytes(save_checkpoint(replace(smaller, arch=arch)))
    report = sweep(TrainRequest(str(folder), (DIGITS,), str(folder / "p.json"), trials=6))
    assert (report.problems, report.trials, report.tried, report.failed) == (3, 6, 6, ())
    assert (report.seed, report.settings) == (0, {"budget": "small", "trials": 6})
    return folder / "p.json"


def test_a_second_sweep_tries_nothing_twice(trained: Path) -> None:
    before = trained.read_bytes()
    report = sweep(TrainRequest(str(trained.parent), (DIGITS,), str(trained), trials=6, force=True))
    assert (report.trials, report.tried) == (6, 0)
    assert trained.read_bytes() == before
    table = read_table(trained.parent / "p.json.trials")
    assert {problem.model for problem in table.problems.values()} == {"a", "b", "c"}
    assert all(0 <= trial.quality <= 1 and trial.seconds > 0 for trial in table.trials)


def test_a_lost_trial_is_the_only_one_tried_again(trained: Path) -> None:
    next((trained.parent / "p.json.trials" / "store").rglob("*.json")).unlink()
    assert sweep(TrainRequest(str(trained.parent), (DIGITS,), str(trained), trials=6, force=True)).tried == 1


def test_trials_belong_to_the_data_and_not_to_their_folder(trained: Path, tmp_path: Path) -> None:
    moved = tmp_path / "digits.npz"
    moved.write_bytes(Path(DIGITS).read_bytes())
    assert sweep(TrainRequest(str(trained.parent), (str(moved),), str(trained), trials=6, force=True)).tried == 0


def test_workers_of_a_cluster_may_run_anywhere(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths are meant from where the command runs, and names in the table stay as they were said."""

    def elsewhere(function: Callable[[sweeping.Job], sweeping.Done], jobs: Sequence[sweeping.Job], address: str) -> list[sweeping.Done]:
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            return [function(job) for job in jobs]

    monkeypatch.setattr(cluster, "on_cluster", elsewhere)
    monkeypatch.chdir(trained.parent)
    before = trained.read_bytes()
    report = sweep(TrainRequest(".", (os.path.relpath(DIGITS),), trained.name, trials=6, cluster="tcp://somewhere:8786", force=True))
    assert (report.trials, report.tried) == (6, 0)
    assert trained.read_bytes() == before


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no models"):
        sweep(TrainRequest(str(tmp_path), (DIGITS,), str(tmp_path / "p.json")))


def test_too_few_architectures_are_refused_before_the_trials(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models of one architecture are one; those of earlier trials count."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.pt").write_bytes((trained.parent / f"{name}.pt").read_bytes())
    (tmp_path / "b2.pt").write_bytes((tmp_path / "b.pt").read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "work", None)
        with pytest.raises(InputError, match=r"a predictor needs models of 3 architectures or more, not of a, b: add some$"):
            sweep(TrainRequest(str(tmp_path), (DIGITS,), str(tmp_path / "p.json")))
    assert not (tmp_path / "p.json.trials").exists()
    shutil.copytree(trained.parent / "p.json.trials", tmp_path / "p.json.trials")
    assert sweep(TrainRequest(str(tmp_path), (DIGITS,), str(tmp_path / "p.json"), trials=3)).problems == 4


def test_inputs_are_never_overwritten_and_never_confused(trained: Path, tmp_path: Path) -> None:
    model = trained.parent / "a.pt"
    with pytest.raises(UsageError, match="is an input"):
        sweep(TrainRequest(str(trained.parent), (DIGITS,), str(model), force=True))
    (tmp_path / "a.pt").write_bytes(model.read_bytes())
    (tmp_path / "a.safetensors").touch()
    with pytest.raises(UsageError, match="would be called a/digits"):
        sweep(TrainRequest(str(tmp_path), (DIGITS,), str(tmp_path / "p.json")))


def _request(predictor: Path, **constraints: float) -> RecommendRequest:
    return RecommendRequest(
        str(SAMPLES / "digits_resnet.pt"), RecommendConfig(Constraints(**constraints)), data=DIGITS, predictor=str(predictor), threads=1
    )


def test_recommendations_meet_what_is_asked_best_first(trained: Path) -> None:
    report = run(_request(trained, compression=4.0)).report
    found = report.recommended
    assert found
    assert all(entry.compression >= 4 for entry in found)
    assert report.offered == len(read_predictors(trained).informed.settings)
    assert all(entry.low <= entry.predicted <= entry.high for entry in found)
    assert json.loads(report.to_json())["metric"] == "top-1"


def test_the_winner_is_carried_out_and_written(trained: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.onnx"
    request = _request(trained, compression=2.0)
    outcome = run(replace(request, config=replace(request.config, apply=1, verify=1, budget="small", explain=True), outputs=(str(output),)))
    first = outcome.report.recommended[0]
    assert first.real is not None
    assert first.real_compression == pytest.approx(first.compression, rel=0.1)
    onnx.checker.check_model(onnx.load(output))
    assert outcome.report.explained
    assert outcome.report.nearest[0].startswith("a/")
    assert (outcome.report.settings["apply"], outcome.report.settings["budget"]) == (1, "small")
    assert RecommendReport.from_json(outcome.report.to_json()) == outcome.report


def test_what_no_setting_meets_names_the_nearest(trained: Path) -> None:
    with pytest.raises(TargetError, match="the nearest is"):
        run(_request(trained, compression=1e6))


def test_an_error_is_not_asked_of_classes(trained: Path) -> None:
    with pytest.raises(UsageError, match="give --min-accuracy"):
        run(_request(trained, error=0.1))


def test_a_model_that_has_learned_nothing_is_neither_tried_nor_advised(trained: Path, tmp_path: Path) -> None:
    graph = load_model(trained.parent / "a.pt")
    state = {name: tensor * 0 for name, tensor in graph.module.state_dict().items()}
    graph.module.load_state_dict(state)
    for arch in ("idle", "lazy", "sleepy"):
        (tmp_path / f"{arch}.pt").write_bytes(save_checkpoint(replace(graph, arch=arch)))
    with pytest.raises(InputError, match="no better than a constant"):
        run(replace(_request(trained, compression=2.0), model=str(tmp_path / "idle.pt")))
    with pytest.raises(InputError, match="no setting could be tried: idle/digits: the model is no better"):
        sweep(TrainRequest(str(tmp_path), (DIGITS,), str(tmp_path / "p.json"), trials=1))


def test_without_data_the_model_alone_speaks(trained: Path) -> None:
    request = replace(_request(trained, compression=2.0), data=None)
    report = run(request).report
    assert report.metric == "retained accuracy"
    assert "loss" in report.missing
    assert any("without --data" in warning for warning in report.warnings)
    with pytest.raises(UsageError, match="give --data"):
        run(replace(request, config=replace(request.config, verify=1)))


@pytest.mark.parametrize(
    ("setting", "kept"),
    [
        (Setting("level", "none", 0.75, 32), 0.25),
        (Setting("l1", "uniform", 0.5, 8), 0.5),
        (Setting("level-tuned", "lsq", 0.5, 4), 0.5),
        (Setting("none", "dorefa", 0.0, 8), 1.0),
    ],
    ids=str,
)
def test_a_trial_does_what_its_setting_says(graph: ModelGraph, data: Dataset, setting: Setting, kept: float) -> None:
    found = compress(graph, data, setting, BUDGET)
    assert found.kept == pytest.approx(kept, abs=0.03)
    assert found.quality > 0.5
    assert (found.model is None) == (setting.quantizer == "none")


def test_settings_that_cannot_run_are_known(graph: ModelGraph) -> None:
    plain = load_model("mlp")
    slimming, dense = Setting("slimming", "none", 0.5, 32), Setting("l1", "lsq", 0.5, 4)
    assert runs_on(slimming, graph, data=True)
    assert not runs_on(slimming, plain, data=True)
    assert runs_on(dense, plain, data=True)
    assert not runs_on(dense, plain, data=False)
    assert runs_on(Setting("level", "none", 0.5, 32), plain, data=False)


def test_latencies_fall_with_what_is_cut_and_not_with_zeros(graph: ModelGraph) -> None:
    settings = [Setting(), Setting("level", "none", 0.9, 32), Setting("l1", "none", 0.9, 32)]
    found = latencies(graph, None, settings, threads=1)
    whole, sparse, cut = (found[setting] for setting in settings)
    assert whole == sparse
    assert cut < whole
