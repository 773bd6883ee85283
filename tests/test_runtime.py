from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from compresskit import runtime
from compresskit.errors import UsageError


@pytest.fixture(autouse=True)
def _unchanged_globals() -> Iterator[None]:
    threads, python, numpy = torch.get_num_threads(), random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)
    random.setstate(python)
    np.random.set_state(numpy)


def _draw() -> tuple[float, float, float]:
    return random.random(), np.random.random(), torch.rand(()).item()


def test_one_seed_gives_one_sequence_in_all_three_generators() -> None:
    assert runtime.seed_everything(5) == 5
    first = _draw()
    runtime.seed_everything(5)
    assert _draw() == first
    runtime.seed_everything(6)
    assert all(a != b for a, b in zip(_draw(), first, strict=True))


def test_a_drawn_seed_can_be_used_again() -> None:
    seed = runtime.seed_everything(None)
    first = _draw()
    assert runtime.seed_everything(seed) == seed
    assert _draw() == first
    assert runtime.seed_everything(None) != runtime.seed_everything(None)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(UsageError, match="from 0 to 4294967295"):
        runtime.seed_everything(seed)


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.set_threads(2) == 2
    assert torch.get_num_threads() == 2
    assert runtime.set_threads(0) == runtime.available_cpus() >= 1
    monkeypatch.setattr(runtime, "available_cpus", lambda: 5)
    for processes, share in (("2", 2), ("9", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        assert runtime.set_threads(0) == share
    with pytest.raises(UsageError, match="-1 threads"):
        runtime.set_threads(-1)


def test_without_a_gpu_the_device_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in (None, "auto", "cpu", "cpu:0"):
        assert runtime.select_device(name) == torch.device("cpu")
    with pytest.raises(UsageError, match=r"no device 'cuda'.*0 CUDA devices.*--device cpu"):
        runtime.select_device("cuda")


def test_with_gpus_each_local_rank_takes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert runtime.select_device(None) == torch.device("cuda", 0)
    assert runtime.select_device("cuda:1") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert runtime.select_device("auto") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match=r"no device 'cuda:2'.*2 CUDA devices"):
        runtime.select_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="use auto, cpu, cuda or cuda:N"):
        runtime.select_device(name)


def test_versions_are_those_of_the_libraries_and_need_no_torch() -> None:
    found = runtime.versions()
    assert found["python"] == sys.version.split()[0]
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(found) == {"python", "compresskit", "torch", "onnx", "onnxruntime", "numpy"}
    script = "import sys; from compresskit import runtime; runtime.versions(); print({'torch', 'numpy', 'onnx'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_a_missing_library_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_LIBRARIES", ("no-such-library",))
    assert runtime.versions()["no-such-library"] == "not installed"
