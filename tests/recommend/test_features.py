"""Meta features of models and data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from compresskit.data import Dataset
from compresskit.models.cost import total
from compresskit.models.graph import ModelGraph
from compresskit.models.load import load_model
from compresskit.recommend.features import is_of_model, problem, weight_names, weights
from compresskit.recommend.settings import Setting
from compresskit.recommend.table import Table, read_table, write_table
from compresskit.recommend.vectors import SETTING_NAMES, fit_scaling, names, vectors
from compresskit.training import evaluate
from compresskit.training.objectives import predict

SAMPLES = Path(__file__).parents[2] / "sample_data"


def test_features_are_what_the_model_and_the_data_are(graph: ModelGraph, data: Dataset) -> None:
    found = problem(graph, data, name="digits")
    cost, judged = total(graph), evaluate(graph.module, data.validation, data.normalization)
    assert found.features["log_macs"] == pytest.approx(math.log10(cost.macs))
    assert found.features["log_parameters"] == pytest.approx(math.log10(cost.params))
    assert (found.original, found.features["loss"]) == (judged.accuracy, pytest.approx(judged.loss))
    assert found.trivial == np.bincount(data.validation.y).max() / len(data.validation)
    assert (found.features["linear"], found.features["additions"], found.features["classes"]) == (1, 3, 10)


def test_a_problem_survives_files_again_and_again(graph: ModelGraph, data: Dataset, tmp_path: Path) -> None:
    described = problem(graph, data, name="digits")
    table = Table({"digits": described}, ())
    for _ in range(2):
        write_table(table, tmp_path, force=True)
        table = read_table(tmp_path)
    found = table.problems["digits"]
    assert (found.original, found.trivial) == pytest.approx((described.original, described.trivial), rel=1e-5)
    assert found.features == pytest.approx(described.features, rel=1e-5, nan_ok=True)


def test_the_gradient_is_that_of_the_mean_loss_whatever_the_batches(graph: ModelGraph, data: Dataset) -> None:
    found = problem(graph, data).features
    x = torch.from_numpy(data.validation.x).float().div(255 if data.validation.x.dtype == np.uint8 else 1)
    x = (x - data.normalization.mean[0]) / data.normalization.std[0]
    graph.module.eval()
    labels = torch.from_numpy(data.validation.y)
    loss = torch.nn.functional.cross_entropy(predict(graph.module, x), labels)
    gradients = torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, list(graph.module.parameters()))])
    assert found["gradient_l1"] == pytest.approx(float(gradients.abs().mean()), rel=1e-3)
    assert found["gradient_l2"] == pytest.approx(float(gradients.square().mean().sqrt()), rel=1e-3)
    assert all(parameter.grad is None for parameter in graph.module.parameters())


def test_without_data_only_the_model_speaks(graph: ModelGraph) -> None:
    found = problem(graph, None)
    unknown = {name for name, value in found.features.items() if math.isnan(value)}
    assert unknown == {name for name in found.features if not is_of_model(name)}
    assert (found.original, found.trivial) == (1, 0)


def test_what_is_kept_grows_with_what_stays_and_noise_falls_with_bits(graph: ModelGraph) -> None:
    found = weights(graph)
    assert set(found) == set(weight_names())
    for kind in ("kept_energy", "kept_channels"):
        values = [value for name, value in found.items() if name.startswith(kind)]
        assert values == sorted(values)
        assert 0 < values[0] < values[-1] <= 1
    decibels = [value for name, value in found.items() if name.startswith("rounding_db")]
    assert decibels == sorted(decibels)
    assert decibels[-1] - decibels[-2] == pytest.approx(12, abs=1.5)  # two more bits


def test_vectors_have_a_row_a_setting_and_scaled_columns(graph: ModelGraph, data: Dataset) -> None:
    known = [problem(graph, data, name="a"), problem(load_model("resnet8"), None, name="b")]
    scaling = fit_scaling(known)
    settings = [Setting(), Setting("l1", "lsq", 0.5, 4)]
    rows = vectors(known[0], settings, scaling)
    assert rows.shape == (2, len(names(scaling)))
    own = rows[:, : len(scaling.names)]
    assert np.nanmin(own) >= 0
    assert np.nanmax(own) <= 1
    whole, half = (dict(zip(SETTING_NAMES, row[len(scaling.names) :], strict=True)) for row in rows)
    assert (whole["sparsity"], whole["energy"], whole["rounding_db"]) == (0, 1, 1)
    assert (half["pruner_l1"], half["quantizer_lsq"], half["sparsity"]) == (1, 1, 0.5)
    assert half["energy"] == pytest.approx(known[0].features["kept_energy_0.5"])
