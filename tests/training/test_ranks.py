"""Two processes, as `torchrun` starts them, train like one."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compresskit.data.dataset import Dataset, Split
from compresskit.errors import UsageError
from compresskit.models.graph import Normalization
from compresskit.training import TrainConfig, train
from compresskit.training.ranks import Ranks

SCRIPT = """
import os, sys
from pathlib import Path
import numpy as np, torch
from torch import nn
from compresskit.data.dataset import Dataset, Split
from compresskit.models.graph import Normalization
from compresskit.training import TrainConfig, train

torch.set_num_threads(1)
folder, rank = Path(sys.argv[1]), os.environ.get("RANK", "0")
rng = np.random.default_rng(0)
x, y = rng.normal(size=(45, 6)).astype(np.float32), rng.integers(0, 3, 45)
data = Dataset(Split(x, y), Split(x, y), None, Normalization((0.0,), (1.0,)), "made up", 3)

def run(name, *parts):
    torch.manual_seed(int(rank))  # the weights of rank 0 count
    net = nn.Sequential(nn.Linear(6, 8), *parts, nn.ReLU(), nn.Linear(8, 3))
    result = train(net, data, TrainConfig(epochs=3, batch_size=16, precision="fp32", clip=1.0, checkpoint=folder / f"{name}.checkpoint"))
    torch.save((net.state_dict(), [record.loss for record in result.history]), folder / f"{name}.{rank}")

run("plain")
run("norm", nn.BatchNorm1d(8), nn.Dropout(0.1))
"""


def _trained(folder: Path, name: str, rank: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    return torch.load(folder / f"{name}.{rank}", weights_only=True)


def test_two_processes_end_with_the_weights_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    monkeypatch.setattr("sys.argv", [str(script), str(one)])
    with torch.random.fork_rng(devices=[]):
        runpy.run_path(str(script))
    pair = subprocess.run([sys.executable, *launcher, str(script), str(two)], capture_output=True, text=True)
    assert pair.returncode == 0, pair.stderr
    for name in ("plain", "norm"):
        (first, losses), (second, same_losses) = _trained(two, name, 0), _trained(two, name, 1)
        assert losses == same_losses
        assert all(torch.equal(first[key], second[key]) for key in first)
    alone, losses = _trained(one, "plain", 0)
    together, mean_losses = _trained(two, "plain", 0)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert mean_losses == pytest.approx(losses, rel=1e-4)


def test_the_shares_of_all_ranks_are_the_batch() -> None:
    batch = torch.arange(7)
    shares = [Ranks(rank, 3).share(batch) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 2, 2]
    assert torch.equal(torch.cat(shares).sort().values, batch)


def test_one_process_exchanges_nothing() -> None:
    tensor = torch.ones(3)
    Ranks().average([tensor], 0.5)
    Ranks().copy_from_first([tensor])
    assert tensor.eq(1).all()


def test_a_batch_smaller_than_the_ranks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compresskit.training.run.join", lambda device: Ranks(0, 4))
    split = Split(np.zeros((9, 6), np.float32), np.zeros(9, np.int64))
    data = Dataset(split, split, None, Normalization((0.0,), (1.0,)), "made up", 3)
    with pytest.raises(UsageError, match="a batch of 3 is too small for 4 processes"):
        train(nn.Linear(6, 3), data, TrainConfig(batch_size=3))
