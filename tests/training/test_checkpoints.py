from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compresskit.errors import InputError, OutputError
from compresskit.training import checkpoints


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.checkpoint"


def _step(path: Path) -> int:
    return checkpoints.load(path)["step"]


def test_what_is_saved_is_loaded(path: Path) -> None:
    payload = {"weight": torch.arange(6.0).reshape(2, 3).T, "history": [{"loss": 0.5, "interval": (0.1, 0.2)}], "none": None}
    checkpoints.save(path, payload)
    loaded = checkpoints.load(path)
    assert torch.equal(loaded.pop("weight"), payload.pop("weight"))
    assert loaded == payload


def test_the_newest_and_the_one_before_are_kept(path: Path) -> None:
    assert not checkpoints.exists(path)
    for step in range(3):
        checkpoints.save(path, {"step": step})
    assert sorted(path.parent.iterdir()) == [path, checkpoints.previous(path)]
    assert _step(path) == 2
    path.unlink()
    assert checkpoints.exists(path)
    assert _step(path) == 1
    checkpoints.discard(path)
    checkpoints.discard(path)
    assert not checkpoints.exists(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_newest_one_falls_back_and_never_replaces_the_one_before(path: Path, data: st.DataObject) -> None:
    checkpoints.discard(path)
    checkpoints.save(path, {"step": 0})
    checkpoints.save(path, {"step": 1})
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "truncate"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    assert _step(path) == 0
    checkpoints.save(path, {"step": 2})
    assert _step(path) == 2
    path.unlink()
    assert _step(path) == 0


def test_two_damaged_ones_are_refused(path: Path) -> None:
    path.write_bytes(b"")
    checkpoints.previous(path).write_bytes(b"junk")
    with pytest.raises(InputError, match="not a whole training checkpoint"):
        checkpoints.load(path)


def test_a_previous_one_that_cannot_be_replaced_is_an_output_error(path: Path) -> None:
    checkpoints.save(path, {"step": 0})
    checkpoints.previous(path).mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*\.previous"):
        checkpoints.save(path, {"step": 1})
    assert _step(path) == 0


def test_a_checkpoint_that_cannot_be_written_leaves_a_whole_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.save(path, {"step": 0})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="no space left on device"):
        checkpoints.save(path, {"step": 1})
    assert _step(path) == 0


def test_only_checkpoints_are_discarded(path: Path) -> None:
    path.write_bytes(b"a model, named by mistake")
    checkpoints.discard(path)
    assert path.read_bytes() == b"a model, named by mistake"
    path.unlink()
    checkpoints.save(path, {"step": 0})
    checkpoints.save(path, {"step": 1})
    checkpoints.discard(path)
    assert list(path.parent.iterdir()) == []
