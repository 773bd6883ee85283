"""Work on a Dask cluster."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from compresskit import cluster as clustering
from compresskit.cluster import Workers, _check_release, _silence, on_cluster
from compresskit.errors import InputError, UsageError

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as running:
        yield running


def _square(number: int) -> int:
    return number**2


def _die_once(marker: str) -> str:
    """End the worker, as a machine that is switched off would, unless that was done before."""
    path = Path(marker)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return path.name


def _fail(_: int) -> None:
    raise InputError("as asked")


def test_results_come_in_order(cluster: distributed.LocalCluster) -> None:
    assert list(on_cluster(_square, range(10), cluster.scheduler_address)) == [number**2 for number in range(10)]


def test_the_work_of_a_dead_worker_is_done_by_another(cluster: distributed.LocalCluster, tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a", "b", "c")]
    assert list(on_cluster(_die_once, names, cluster.scheduler_address)) == ["a", "b", "c"]


def test_errors_are_the_functions(cluster: distributed.LocalCluster) -> None:
    with pytest.raises(InputError, match="as asked"):
        list(on_cluster(_fail, [1], cluster.scheduler_address))


def test_large_tasks_travel_without_a_word(cluster: distributed.LocalCluster) -> None:
    assert list(on_cluster(len, [bytes(11_000_000)], cluster.scheduler_address)) == [11_000_000]


def _threads(_: int) -> int:
    import torch

    return torch.get_num_threads()


def test_work_is_done_here_or_there_and_with_one_thread(cluster: distributed.LocalCluster) -> None:
    for workers in (Workers(), Workers(cluster=cluster.scheduler_address)):
        assert list(workers.map(_threads, [0, 1])) == [1, 1]


@pytest.mark.parametrize("scheduler", ["1.2", "1.1", None])
@pytest.mark.parametrize("worker", ["1.2", "1.1", None])
def test_only_this_release_is_trusted(scheduler: str | None, worker: str | None) -> None:
    """Stands for a cluster of other machines, whose workers would wait for modules that they lack."""

    def having(release: str | None) -> dict[str, dict[str, str | None]]:
        return {"packages": {"compresskit": release}}

    found = {"client": having("1.2"), "scheduler": having(scheduler), "workers": {"a": having("1.2"), "b": having(worker)}}
    client = SimpleNamespace(get_versions=lambda packages: found)
    if scheduler == worker == "1.2":
        _check_release(client, "tcp://a:1")
        return
    with pytest.raises(InputError, match=r"^the Dask cluster at tcp://a:1 has .*compresskit.*, and here is compresskit 1\.2: install the same"):
        _check_release(client, "tcp://a:1")


def test_dask_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"^--cluster needs Dask: pip install 'compresskit\[cluster\]'$"):
        list(Workers(cluster="tcp://127.0.0.1:9").map(_square, [1]))


def test_a_cluster_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "CONNECT_SECONDS", 0.5)
    with pytest.raises(InputError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        list(on_cluster(_square, [1], "tcp://127.0.0.1:9"))
    with pytest.raises(InputError, match="no Dask scheduler"):
        list(on_cluster(_square, [1], "nonsense"))
    assert [left for left in gc.get_objects() if type(left) is distributed.Client and left.status != "closed"] == []


def test_a_scheduler_that_dies_is_one_line() -> None:
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as running:
        address = running.scheduler_address
        found = on_cluster(time.sleep, [0, 600], address)
        assert next(found) is None
        running.close()
        with pytest.raises(InputError, match=f"^the Dask scheduler at {address} ended before the work did: start it again, and repeat the command$"):
            next(found)


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_only_dask_is_silenced_and_only_while_it_is_closed() -> None:
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client", "distributed.comm.core", "distributedly", "compresskit")]
    kept = _Kept()
    for logger in loggers:
        logger.addHandler(kept)

    def said() -> list[str]:
        kept.lines.clear()
        for logger in loggers:
            logger.error(logger.name)
        return sorted(set(kept.lines))

    try:
        everything = sorted(logger.name for logger in loggers)
        assert said() == everything
        with _silence():
            assert said() == ["compresskit", "distributedly"]
        with pytest.raises(InputError), _silence():
            raise InputError("closing failed")
        assert said() == everything
    finally:
        for logger in loggers:
            logger.removeHandler(kept)
