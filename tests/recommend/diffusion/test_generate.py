"""Generated samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from compresskit.data import Dataset, Split
from compresskit.errors import InputError
from compresskit.models.graph import Normalization
from compresskit.recommend.diffusion.generate import GenerateConfig, generate
from compresskit.recommend.diffusion.networks import Perceptron, UNet


def _table(classes: int | None) -> Dataset:
    """Two clusters far apart; as numbers, the target is the sum of the columns."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    x = (rng.normal(size=(600, 2)) * 0.3 + 10 * labels[:, None] + [0, 100]).astype(np.float32)
    y = labels if classes else x.sum(1)
    split = Split(x, y)
    return Dataset(split, split, None, Normalization((0.0,), (1.0,)), "made up", classes)


def _images() -> Dataset:
    """Class 0 is dark, class 1 is bright."""
    labels = np.arange(120) % 2
    x = (np.random.default_rng(0).integers(0, 40, (120, 1, 6, 7)) + 200 * labels[:, None, None, None]).astype(np.uint8)
    return Dataset(Split(x, labels), Split(x, labels), None, Normalization((0.5,), (0.5,)), "made up", 2)


def test_rows_are_near_the_cluster_of_their_class(one_thread: None) -> None:
    drawn = generate(_table(2), GenerateConfig(200, epochs=40.0, width=32, steps=20))
    assert drawn.x.shape == (200, 2)
    near = np.abs(drawn.x - (10 * drawn.y[:, None] + [0, 100])) < 3
    assert near.mean() > 0.9


def test_a_number_as_target_is_drawn_with_its_row(one_thread: None) -> None:
    drawn = generate(_table(None), GenerateConfig(200, epochs=40.0, width=32, steps=20))
    assert drawn.y.dtype == np.float32
    assert np.abs(drawn.x.sum(1) - drawn.y).mean() < 2


def test_images_are_of_their_class_and_the_same_for_the_same_seed(one_thread: None) -> None:
    config = GenerateConfig(24, epochs=15.0, width=8, steps=8, seed=3)
    drawn, again = generate(_images(), config), generate(_images(), config)
    np.testing.assert_array_equal(drawn.x, again.x)
    assert drawn.x.dtype == np.uint8
    assert drawn.x[drawn.y == 1].mean() > drawn.x[drawn.y == 0].mean() + 50


def test_texts_and_maps_are_refused() -> None:
    data = _images()
    with pytest.raises(InputError, match="images and rows"):
        generate(replace(data, train=Split(data.train.x, np.zeros((120, 6, 7), np.int64))), GenerateConfig(1))


def test_networks_take_any_size() -> None:
    for shape in ((3, 32, 32), (1, 7, 5)):
        network = UNet(shape[0], 10, width=8)
        assert network(torch.zeros(2, *shape), torch.zeros(2), torch.tensor([0, 10])).shape == (2, *shape)
    assert Perceptron(5, 0, width=8)(torch.zeros(2, 5), torch.ones(2), torch.zeros(2, dtype=torch.long)).shape == (2, 5)
