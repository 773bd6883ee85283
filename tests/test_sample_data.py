"""The shipped sample is whole, small and as good as its script says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compresskit.data import load_data
from compresskit.models.checkpoint import load_checkpoint
from compresskit.models.zoo import ARCHITECTURES, fit
from compresskit.training import evaluate

FOLDER = Path(__file__).parents[1] / "sample_data"


def test_the_archive_holds_two_splits_of_all_digits() -> None:
    with np.load(FOLDER / "digits.npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    assert {key: array.shape for key, array in arrays.items()} == {
        "x_train": (1297, 8, 8, 1),
        "y_train": (1297,),
        "x_test": (500, 8, 8, 1),
        "y_test": (500,),
    }
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.uint8)}
    assert set(arrays["y_train"]) == set(arrays["y_test"]) == set(range(10))


def test_the_checkpoint_needs_nothing_else_to_classify() -> None:
    graph = load_checkpoint((FOLDER / "digits_resnet.pt").read_bytes())
    assert graph.inputs[0].shape == (None, 1, 8, 8)
    assert graph.normalization is not None
    data = load_data(FOLDER / "digits.npz", input_shape=(1, 8, 8), outputs=10)
    assert data.test is not None
    found = evaluate(graph.module, data.test, graph.normalization)
    assert found.accuracy is not None
    assert found.accuracy > 0.98


def test_the_checkpoint_names_its_architecture() -> None:
    graph = load_checkpoint((FOLDER / "digits_resnet.pt").read_bytes())
    found = fit(ARCHITECTURES[str(graph.arch)], {key: tuple(value.shape) for key, value in graph.module.state_dict().items()})
    assert found.exact
    assert found.options == {"shortcut": "B", "classes": 10, "in_channels": 1, "width": 1.0}
