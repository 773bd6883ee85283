"""`encode --train-base` in two processes, as `torchrun` starts them, is one training."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from compresskit.codec import metatrain
from compresskit.codec.coordinates import grid
from compresskit.codec.metatrain import TrainBaseConfig, TrainedBase, train
from compresskit.codec.reports import TrainBaseReport
from compresskit.codec.shelf import named
from compresskit.errors import UsageError
from compresskit.training.ranks import Ranks

CONFIG = TrainBaseConfig(width=8, depth=2, latents=4, start=20, steps=12, batch=9, points=16)
X = torch.from_numpy(grid((4, 4))).float() / 2**14
SCRIPT = """
import os, sys
from dataclasses import replace
from pathlib import Path
import torch
import torch.distributed as dist
from compresskit.codec import calibrate, learnprior, training
from compresskit.codec.config import TrainBaseRequest
from compresskit.codec.coordinates import grid
from compresskit.codec.metatrain import TrainBaseConfig, train

torch.set_num_threads(1)
folder, rank = Path(sys.argv[1]), os.environ["RANK"]
config = TrainBaseConfig(width=8, depth=2, latents=4, start=20, steps=12, batch=9, points=16)
x = torch.from_numpy(grid((4, 4))).float() / 2**14
left = 8

def draw(count, generator):
    return torch.rand(count, 16, 1, generator=generator)

def ending(count, generator):
    global left
    left -= 1
    if not left:
        raise KeyboardInterrupt
    return draw(count, generator)

torch.save(tensors(train(draw, x, config)), folder / f"whole.{rank}")
kept = replace(config, checkpoint=folder / "state", checkpoint_minutes=0.0, resume=True)
try:
    train(ending, x, kept)
except KeyboardInterrupt:
    dist.barrier()
torch.save(tensors(train(draw, x, kept)), folder / f"resumed.{rank}")
calibrate.SAMPLE, calibrate.FITTED, learnprior.STEPS, training.CHECK_PATCHES = 128, 128, 10, 8
request = TrainBaseRequest((str(folder / "a.npy"),), "gray", str(folder / "own"), steps=3, latents=4, width=8, depth=2, threads=1)
(folder / f"report.{rank}").write_text(training.train_base(request).to_json())
"""


def tensors(trained: TrainedBase) -> list[torch.Tensor]:
    network = trained.network
    return [*network.siren.weights, *network.siren.biases, network.mapping, trained.encoder, trained.mean, torch.tensor(trained.curve)]


def draw(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(count, 16, 1, generator=generator)


def test_two_processes_train_the_base_network_of_one(tmp_path: Path, npy_bytes: Callable[[np.ndarray], bytes]) -> None:
    (tmp_path / "a.npy").write_bytes(npy_bytes(np.random.default_rng(0).integers(256, size=(40, 50)).astype(np.uint8)))
    (tmp_path / "script.py").write_text(f"from __future__ import annotations\n{inspect.getsource(tensors)}\n{SCRIPT}")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    pair = subprocess.run([sys.executable, *launcher, str(tmp_path / "script.py"), str(tmp_path)], capture_output=True, text=True)
    assert pair.returncode == 0, pair.stderr
    found = {name: torch.load(tmp_path / name, weights_only=True) for name in ("whole.0", "whole.1", "resumed.0", "resumed.1")}
    for name, others in found.items():
        assert all(map(torch.equal, found["whole.0"], others)), name
    torch.testing.assert_close(found["whole.0"], tensors(train(draw, X, CONFIG)), rtol=1e-3, atol=1e-4)
    reports = [TrainBaseReport.from_json((tmp_path / f"report.{rank}").read_text()) for rank in range(2)]
    assert reports[0].psnr == reports[1].psnr
    assert named(str(tmp_path / "own")).latents == 4


def test_a_batch_smaller_than_the_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metatrain, "join", lambda device: Ranks(0, 10))
    with pytest.raises(UsageError, match="a batch of 9 patches is too small for 10 processes: each needs one"):
        train(draw, X, CONFIG)
