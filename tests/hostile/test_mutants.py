"""Errors are ours: whatever damage does to a model file, it loads or ends in an error of the family, never in a signal.

The mutants are read in a forked child: a crash there fails the test with the mutant's number, and leaves the tests alive.
"""

from __future__ import annotations

import io
import os
import random
import signal
import traceback
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save as save_safetensors
from torch import nn

from compresskit.errors import CompresskitError
from compresskit.models import load
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.graph import TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.load import load_model

MUTANTS = int(os.environ.get("COMPRESSKIT_MUTANTS", "300"))  # of each format; more by hand
SEED = int(os.environ.get("COMPRESSKIT_SEED", "0"))

Child = Callable[[Callable[[int], object]], tuple[int, str]]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)).eval()


def saved(value: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


FORMATS: dict[str, Callable[[], bytes]] = {
    "zip": lambda: saved(net().state_dict()),
    "legacy": lambda: saved(net().state_dict(), _use_new_zipfile_serialization=False),
    "safetensors": lambda: save_safetensors(net().state_dict()),
    "checkpoint": lambda: save_checkpoint(graph_from_module(net(), (TensorSpec("x", (None, 4)),), source="t")),
}


def mutants(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Flipped bits, changed bytes, cuts, swaps, insertions, repetitions, and numbers at their extremes."""
    rng = random.Random(seed)
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            at = rng.randrange(len(mutant)) if mutant else 0
            end = min(len(mutant), at + rng.choice((1, 2, 4, 8, 50)))
            kind = rng.randrange(7)
            if kind == 0 and mutant:
                mutant[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                mutant[at:end] = rng.randbytes(end - at)
            elif kind == 2:
                del mutant[at:end]
            elif kind == 3:
                del mutant[at:]
            elif kind == 4:
                mutant[at:at] = mutant[at:end]
            elif kind == 5:
                mutant[at:end] = rng.choice((b"\xff", b"\0", b"\x7f")) * (end - at)
            else:
                other = rng.randrange(len(mutant) + 1)
                mutant[at:end] = mutant[other : other + end - at]
        yield bytes(mutant)


@pytest.mark.parametrize("name", [*FORMATS, "onnx"])
def test_mutants_end_in_our_errors(name: str, maker: Callable[[str], ModuleType], in_child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    data = maker("make_onnx").model().SerializeToString() if name == "onnx" else FORMATS[name]()
    options = {} if name in ("onnx", "checkpoint") else {"arch": "a.py:b", "input_shape": (4,)}
    lifted = graph_from_module(net(), (TensorSpec("x", (None, 4)),), source="t")
    monkeypatch.setattr(load, "graph_from_module", lambda *_, **__: lifted)  # slow, and sees no byte of the file
    monkeypatch.setattr(load, "_made", lambda _: net())

    def work(pipe: int) -> None:
        torch.set_num_threads(1)
        for number, mutant in enumerate(mutants(data, MUTANTS, seed=SEED)):
            os.write(pipe, f"{number}\n".encode())
            try:
                load_model(mutant, **options)
            except CompresskitError as error:
                if "\n" in str(error):
                    os.write(pipe, f"SEVERAL LINES {error!r}\n".encode())
            except BaseException:
                os.write(pipe, f"ESCAPED {traceback.format_exc()}".encode())
        os.write(pipe, b"done\n")

    status, written = in_child(work)
    assert status == 0, f"mutant {written.splitlines()[-1:]} ended the process with signal {os.WTERMSIG(status)}"
    assert "SEVERAL LINES" not in written, written
    assert "ESCAPED" not in written, written
    assert written.endswith("done\n")


def test_every_mutant_of_a_checkpoint_is_noticed() -> None:
    data = FORMATS["checkpoint"]()
    for mutant in mutants(data, MUTANTS, seed=SEED):
        if mutant != data:
            with pytest.raises(CompresskitError):
                load_model(mutant)


def test_a_crash_would_be_noticed(in_child: Child) -> None:
    status, written = in_child(lambda pipe: (os.write(pipe, b"0\n"), os.kill(os.getpid(), signal.SIGKILL)))
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert written == "0\n"
