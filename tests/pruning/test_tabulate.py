"""A latency table from a model's file to a file that `--table` takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compresskit.errors import UsageError
from compresskit.models import latency_measure
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.graph import ModelGraph
from compresskit.models.latency_file import table_for
from compresskit.models.latency_table import Table
from compresskit.pruning.request import TableRequest
from compresskit.pruning.tabulate import tabulate

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _quick_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_measure, "time_models", lambda probes, *_: np.array([len(probe.model) / 1000 for probe in probes]))


@pytest.fixture
def small(small_net: ModelGraph) -> bytes:
    return save_checkpoint(small_net, "pt")


def test_what_is_written_serves_the_model(small: bytes, small_net: ModelGraph, table_of: Callable[[ModelGraph], Table], tmp_path: Path) -> None:
    path = tmp_path / "phone.json"
    table = tabulate(TableRequest(small, str(path), threads=1))
    assert table == table_of(small_net)
    assert table_for(path, small_net) == (table, ())


def test_a_file_that_exists_is_kept(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "phone.json"
    path.write_text("old")
    with pytest.raises(UsageError, match="exists"):
        tabulate(TableRequest(small, str(path)))
    assert path.read_text() == "old"
    tabulate(TableRequest(small, str(path), force=True))
    assert path.read_text() != "old"
