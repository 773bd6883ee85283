"""Recipes are what a training and a config take, and stay as the papers have them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import get_args

import pytest

from compresskit.pruning.config import PruneConfig, Target
from compresskit.recipes import RECIPES, RecipeName
from compresskit.training import TrainConfig
from compresskit.training.schedule import factor

HALF = Target("flops", 0.5)


def test_every_name_is_a_recipe() -> None:
    assert tuple(RECIPES) == get_args(RecipeName)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fills_a_config(name: RecipeName) -> None:
    config = PruneConfig.from_recipe(name, target=HALF)
    settings = RECIPES[name].settings()
    assert {field.name for field in fields(PruneConfig)} >= set(settings)
    assert config == replace(PruneConfig(target=HALF), recipe=name, **settings)


def test_what_is_said_wins_over_the_recipe() -> None:
    config = PruneConfig.from_recipe("thesis", target=HALF, epochs=20.0, weight_decay=0.0)
    assert config == replace(PruneConfig.from_recipe("thesis", target=HALF), epochs=20.0, weight_decay=0.0)


def test_no_recipe_is_a_plain_config() -> None:
    assert PruneConfig.from_recipe(None, target=HALF, epochs=3.0) == PruneConfig(target=HALF, epochs=3.0)


def test_a_rate_does_not_move_to_another_optimizer() -> None:
    assert PruneConfig.from_recipe("thesis", target=HALF, optimizer="adamw").learning_rate is None
    assert PruneConfig.from_recipe("thesis", target=HALF, optimizer="adamw", learning_rate=0.01).learning_rate == 0.01
    assert PruneConfig.from_recipe("thesis", target=HALF, optimizer="sgd").learning_rate == 0.1


@pytest.mark.parametrize(("name", "drops"), [("thesis", (100, 150)), ("thesis-imagenet", (30, 60, 90))])
def test_rates_fall_where_the_appendix_has_them_fall(name: RecipeName, drops: tuple[int, ...]) -> None:
    recipe = RECIPES[name]
    total = int(recipe.epochs)
    config = TrainConfig(lr=recipe.learning_rate, schedule=recipe.schedule, milestones=recipe.milestones)
    rates = [config.lr * factor(step, total, config) for step in range(total)]
    assert [epoch for epoch in range(1, total) if rates[epoch] < rates[epoch - 1]] == list(drops)
    assert rates[-1] == pytest.approx(0.1 / 10 ** len(drops))
