"""Trials on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compresskit.recommend.settings import Setting
from compresskit.recommend.store import Description, Store
from compresskit.recommend.table import Trial

DESCRIPTION = Description("m/d", "ab" * 32, "d.npz", Setting("l1", "lsq", 0.5, 4), "small")
TRIAL = Trial("m/d", DESCRIPTION.setting, 0.81, 0.49, 3.5, "small")


def test_a_trial_comes_back_and_only_for_its_own_description(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.get(DESCRIPTION) is None
    store.put(DESCRIPTION, TRIAL)
    assert store.get(DESCRIPTION) == TRIAL
    others = ({"model": "cd" * 32}, {"data": "e.npz"}, {"budget": "full"}, {"seed": 1}, {"setting": Setting("l1", "lsq", 0.5, 8)})
    assert all(store.get(replace(DESCRIPTION, **other)) is None for other in others)  # type: ignore[arg-type]


def test_addresses_are_for_ever() -> None:
    assert DESCRIPTION.address == Description("m/d", "ab" * 32, "d.npz", Setting("l1", "lsq", 0.5, 4), "small", 0).address
    assert len(DESCRIPTION.address) == 64


def test_a_damaged_trial_is_tried_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(DESCRIPTION, TRIAL)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(path.read_text()[:-5])
    assert store.get(DESCRIPTION) is None
    store.put(DESCRIPTION, TRIAL)
    assert store.get(DESCRIPTION) == TRIAL
