"""Untrusted code never runs: crafted files of all kinds, under right and wrong names, are refused and touch nothing."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from compresskit.errors import InputError, UntrustedError
from compresskit.models.load import load_model

SUFFIXES = (".pt", ".pth", ".pt2", ".onnx", ".safetensors", ".pkl", "")


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("m") / "ran"


@pytest.fixture(scope="module")
def crafted(marker: Path, maker: Callable[[str], ModuleType]) -> dict[str, Any]:
    files: dict[str, Any] = maker("make").code_files(marker)
    assert not marker.exists()
    return files


def test_there_are_enough_of_them(crafted: dict[str, Any]) -> None:
    assert sum(file.untrusted for file in crafted.values()) >= 24
    assert sum(file.live for file in crafted.values()) >= 24


def test_they_are_refused_under_every_name_and_run_nothing(crafted: dict[str, Any], marker: Path, tmp_path: Path) -> None:
    for number, (name, file) in enumerate(crafted.items()):
        for suffix in (SUFFIXES[number % len(SUFFIXES)], SUFFIXES[(number + 3) % len(SUFFIXES)]):
            path = tmp_path / f"{number}{suffix}"
            path.write_bytes(file.data)
            with pytest.raises(UntrustedError if file.untrusted else InputError) as caught:
                load_model(path, arch="resnet20")
            assert not marker.exists(), name
            message = str(caught.value)
            assert str(path) in message, name
            assert "\n" not in message, name
            assert ("--trust" in message) == file.untrusted, name


def test_their_payloads_are_real(crafted: dict[str, Any], marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)  # torch reports what fails in traces
    for name, file in crafted.items():
        if file.live:
            with contextlib.suppress(Exception):  # some load, most end in one error or another
                load_model(file.data, trust=True)
            assert marker.exists(), name
            marker.unlink()
