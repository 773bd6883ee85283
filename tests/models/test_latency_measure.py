"""Tables hold what the clock said, ask it for no more than they lack, and serve the models that they were made for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from torch import nn

from compresskit.errors import InputError
from compresskit.models import latency, latency_file, latency_measure
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.latency_file import cache_path, cached_table, is_local, parse_table, read_table, table_for, write_table
from compresskit.models.latency_measure import blank_table, measure_table, measured_latency, measured_share
from compresskit.models.latency_operators import fingerprint, uses
from compresskit.models.latency_probe import Probe, idle
from compresskit.models.latency_table import Table
from compresskit.models.lift import graph_from_module

NOTHING = 0.5


def net(width: int, *, source: str = "test") -> ModelGraph:
    layers = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 24, 3, padding=1), nn.Flatten(), nn.Linear(24 * 16, 5)]
    return graph_from_module(nn.Sequential(*layers).eval(), [TensorSpec("x", (None, 3, 4, 4))], source=source)


class Clock:
    """A machine that takes a thousandth of a millisecond for each weight, and as long for any run."""

    def __init__(self) -> None:
        self.parties: list[int] = []

    def __call__(self, probes: Sequence[Probe], threads: int, seconds: float) -> np.ndarray:
        self.parties.append(len(probes))
        return np.array([NOTHING + sum(int(np.prod(weight.dims)) for weight in _weights(probe)) / 1000 for probe in probes])


def _weights(probe: Probe) -> list[onnx.TensorProto]:
    return [weight for weight in onnx.load_from_string(probe.model).graph.initializer if weight.data_type == onnx.TensorProto.FLOAT]


@pytest.fixture(scope="module")
def made() -> Table:
    return measure_table(net(16), blank_table(), timer=Clock())


def test_a_table_holds_what_the_clock_said(made: Table) -> None:
    calls = uses(net(16))
    entry = made.by_operator[calls[0].operator]
    assert entry.inputs == (1, 3, 8, 16)
    assert entry.outputs == (1, 8, 16, 24)
    wanted = [[(inputs * 9 + 1) * outputs / 1000 for outputs in entry.outputs] for inputs in entry.inputs]
    np.testing.assert_allclose(entry.ms, wanted)
    weights = sum(parameter.numel() for parameter in net(16).module.parameters())
    assert made.summed(calls) == pytest.approx(weights / 1000)
    assert made.whole(calls).ms == pytest.approx(weights / 1000 + NOTHING)
    assert made.whole(calls).operators_ms == pytest.approx(weights / 1000)
    assert made.lacks(calls) == []
    assert is_local(made)


def test_the_clock_is_asked_for_no_more_than_lacks(made: Table) -> None:
    clock = Clock()
    assert measure_table(net(8), made, timer=clock) == made  # as wide as before, or narrower
    assert clock.parties == []
    wider = measure_table(net(40), made, timer=clock)
    assert {entry.operator for entry in wider.entries} == {entry.operator for entry in made.entries}
    assert wider.by_operator[uses(net(40))[0].operator].inputs == (1, 3, 8, 16, 24, 32, 40)
    assert wider.models == made.models
    assert max(clock.parties) <= 33


def test_models_are_known_at_any_width() -> None:
    assert fingerprint(uses(net(16))) == fingerprint(uses(net(5)))


def test_a_model_that_was_not_measured_takes_the_sum_of_its_operators(made: Table) -> None:
    calls = uses(net(16))[:2]
    assert made.whole(calls).ms == made.whole(calls).operators_ms == pytest.approx(made.summed(calls))


def test_a_model_without_operators() -> None:
    graph = graph_from_module(nn.ReLU().eval(), [TensorSpec("x", (None, 3))], source="test")
    table = measure_table(graph, blank_table(), timer=Clock())
    assert (table.entries, table.models, table.summed(())) == ((), {}, 0.0)


def test_the_real_clock() -> None:
    took = latency_measure.time_models([idle(), idle()], 1, 0.0)
    assert took.shape == (2,)
    assert (took > 0).all()


def test_runs_that_count_follow_runs_that_do_not() -> None:
    calls: list[str] = []
    took = latency.take_turns([lambda: calls.append("a"), lambda: calls.append("b")], lambda: float(len(calls)), seconds=0)
    np.testing.assert_array_equal(took, np.ones((5, 2)))
    assert calls == ["a", "a", "b", "b"] * 5


def test_one_thread_is_timed_by_what_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it waits for a processor; but where that clock is too coarse, or several threads compute, by the wall."""
    assert latency.clock(2) is time.perf_counter
    for resolution, wanted in ((1e-9, time.thread_time), (0.0156, time.perf_counter)):
        monkeypatch.setattr(time, "get_clock_info", lambda name, resolution=resolution: SimpleNamespace(resolution=resolution))
        assert latency.clock(1) is wanted


def test_whole_models_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def runs(models: Sequence[bytes], feeds: dict[str, np.ndarray], **options: object) -> list[np.ndarray]:
        assert feeds["x"].shape == (2, 3, 4, 4)
        return [np.full(5, len(model) / 1e3) for model in models]

    monkeypatch.setattr(latency, "time_runs", runs)
    long, short = measured_latency(net(16), batch=2).p50_ms, measured_latency(net(8), batch=2).p50_ms
    assert measured_share(net(8), net(16), batch=2) == pytest.approx(short / long)


def test_files(made: Table, tmp_path: Path) -> None:
    path = tmp_path / "phone.json"
    write_table(made, path, force=False)
    assert read_table(path) == made
    assert table_for(path, net(8)) == (made, ())
    with pytest.raises(InputError, match=r"phone.json: no times of conv 3x3 on 1x4x4, 3 to 40 wide \(0\) and 1 more: measure a table"):
        table_for(path, net(40))


def test_a_table_of_no_time_is_refused(made: Table, tmp_path: Path) -> None:
    entries = tuple(replace(entry, ms=tuple((0.0,) * len(row) for row in entry.ms)) for entry in made.entries)
    path = tmp_path / "phone.json"
    write_table(replace(made, entries=entries), path, force=False)
    with pytest.raises(InputError, match=r"phone.json: the operators of this model take 0 ms in all, .*: measure a table again with --measure-table"):
        table_for(path, net(8))


def test_a_model_too_small_to_time_is_refused() -> None:
    with pytest.raises(InputError, match="the operators of this model take 0 ms in all"):
        measure_table(net(8), blank_table(), timer=lambda probes, *_: np.full(len(probes), NOTHING))


def test_other_versions_and_models_are_warned_of(made: Table, tmp_path: Path) -> None:
    path = tmp_path / "phone.json"
    old = Table("phone", "1.2.3", 1, 1, made.entries, {})
    write_table(old, path, force=False)
    table, (version, model) = table_for(path, net(8))
    assert not is_local(table)
    assert "ONNX Runtime 1.2.3, and this is" in version
    assert "measured for other models" in model


def test_the_cache_is_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    clock = Clock()
    first = cached_table(net(16), timer=clock)
    asked = len(clock.parties)
    assert cached_table(net(8), timer=clock) == first
    assert len(clock.parties) == asked > 0
    assert [path.parent.name for path in tmp_path.rglob("*.json")] == ["compresskit"]
    assert cached_table(net(8), batch=2, timer=clock) != first
    assert len(list(tmp_path.rglob("*.json"))) == 2


def test_a_damaged_or_closed_cache_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = cached_table(net(16), timer=Clock())
    path = cache_path(first)
    path.write_bytes(path.read_bytes()[:-100])
    assert cached_table(net(16), timer=Clock()) == first == read_table(path)
    closed = tmp_path / "file"
    closed.write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(closed))
    notes: list[str] = []

    class Heard(latency_file.SILENT.__class__):  # type: ignore[name-defined, misc]
        def note(self, message: str) -> None:
            notes.append(message)

    assert cached_table(net(16), timer=Clock(), progress=Heard()) == first
    assert "was not kept" in notes[0]


def test_the_cache_is_at_home_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache_path(blank_table()).parent == Path("/home/someone/.cache/compresskit")


@pytest.mark.parametrize("free_batch", [False, True])
def test_the_batch_of_the_file_wins(free_batch: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    graph = graph_from_module(nn.Linear(3, 4).eval(), [TensorSpec("x", (5, 3))], source="test", free_batch=free_batch)
    table = cached_table(graph, batch=2, timer=Clock())
    assert table.batch == 5
    assert table.entries[0].operator.shape == (5,)
    assert measured_latency(graph, batch=2, seconds=0.0).batch == 5


def test_devices_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a device or a pipe"):
        read_table(Path("/dev/zero"))
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "none.json")
    with pytest.raises(InputError, match="is a directory"):
        read_table(tmp_path)


def test_a_file_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_file, "LARGEST", 10)
    (tmp_path / "t.json").write_text("x" * 11)
    with pytest.raises(InputError, match="over 10 bytes"):
        read_table(tmp_path / "t.json")


def test_damage_is_one_line_that_names_the_file() -> None:
    with pytest.raises(InputError, match=r"phone.json: a corrupt latency table: .*; measure it again with --measure-table"):
        parse_table(b"{}", "phone.json")
