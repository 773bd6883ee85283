"""`encode` on a Dask cluster: the bytes of one machine, whatever becomes of the workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from compresskit import cluster as clustering
from compresskit.codec.config import EncodeConfig, EncodeRequest
from compresskit.codec.pipeline import encode
from compresskit.errors import InputError
from compresskit.progress import SILENT, Progress, Silent

distributed = pytest.importorskip("distributed")

FILES = ("a.npy", "b.npy", "c.npy", "d.npy")


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as running:
        yield running


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, npy_bytes: Callable[[np.ndarray], bytes]) -> None:
    """Files of several sizes where the command runs, and where no worker does."""
    for index, name in enumerate(FILES):
        noise = np.random.default_rng(index).integers(200, size=(12, 20 + index))
        (tmp_path / name).write_bytes(npy_bytes(noise.cumsum(axis=0).astype(np.uint16)))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config(base_file: Callable[[int, int], Path]) -> EncodeConfig:
    """COIN++ with a base network in a folder that workers need not see."""
    Path("own.base.safetensors").write_bytes(base_file(2, 1).read_bytes())
    return EncodeConfig(base="own.base.safetensors", steps=3)


COIN = EncodeConfig(method="coin", steps=30)


def stream(config: EncodeConfig, cluster: str | None = None, progress: Progress = SILENT, files: tuple[str, ...] = FILES) -> bytes:
    found = encode(EncodeRequest(files, "-", config, cluster=cluster, threads=1), progress).standard_output
    assert found is not None
    return found


@pytest.mark.parametrize("files", [FILES, FILES[:1]], ids=len)
def test_streams_are_those_of_one_machine(cluster: distributed.LocalCluster, config: EncodeConfig, files: tuple[str, ...]) -> None:
    for asked in (config, COIN):
        assert stream(asked, cluster.scheduler_address, files=files) == stream(asked, files=files)


class KillsOne(Silent):
    """Ends a worker once the first file is done."""

    def __init__(self, worker: int) -> None:
        self.worker, self.fitting = worker, False

    def stage(self, name: str, total: int | None = None) -> None:
        self.fitting = name == "fit"

    def advance(self, steps: int = 1, **figures: float) -> None:
        if self.fitting and self.worker:
            os.kill(self.worker, signal.SIGKILL)
            self.worker = 0


def test_a_worker_that_dies_loses_nothing(cluster: distributed.LocalCluster) -> None:
    with distributed.Client(cluster) as client:
        workers = client.run(os.getpid)
    killer = KillsOne(next(iter(workers.values())))
    assert stream(COIN, cluster.scheduler_address, killer) == stream(COIN)
    assert not killer.worker


def test_a_scheduler_that_is_not_there_is_one_line_and_nothing_is_written(config: EncodeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "CONNECT_SECONDS", 0.5)
    for asked in (config, COIN):
        with pytest.raises(InputError, match=r"^no Dask scheduler answers at tcp://127\.0\.0\.1:9: [^\n]*$"):
            encode(EncodeRequest(FILES, "all.coinpp", asked, cluster="tcp://127.0.0.1:9", threads=1))
    assert not Path("all.coinpp").exists()
