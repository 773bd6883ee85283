"""kill -9 at every step that `encode`, `decode` and `--train-base` take on the disk: what they write is old, or complete."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compresskit.cli.app import main
from compresskit.cli.console import Console
from compresskit.codec import calibrate, learnprior, metatrain, training

Child = Callable[..., tuple[int, str]]
ENCODE = "encode photo.png --method coin --steps 2 -o photo.coinpp"
DECODE = "decode photo.coinpp -o decoded.png"
TRAIN = "encode --train-base photo.png --modality gray --steps 2 --latents 4 --width 8 --depth 2 --checkpoint state -o mine.base.safetensors"


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small picture and its stream in the working folder, and trainings of a moment."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    for module, name in ((calibrate, "SAMPLE"), (calibrate, "FITTED"), (metatrain, "COMPONENT_PATCHES"), (training, "CHECK_PATCHES")):
        monkeypatch.setattr(module, name, 64)
    monkeypatch.setattr(learnprior, "STEPS", 2)
    Image.fromarray(np.add.outer(3 * np.arange(40), 2 * np.arange(50)).astype(np.uint8)).save("photo.png")
    assert run(ENCODE) == 0


def run(line: str) -> int:
    """The exit code of a command."""
    console = Console(stdin=io.BytesIO(), stdout=io.StringIO(), stderr=io.StringIO(), environ={"HOME": "/nonexistent"})
    return main([*line.split(), "-T", "1", "-q", "--force"], console)


def run_until(line: str, deadly: int, pipe: int) -> None:
    """Run a command that is killed before its step number `deadly`, or half way through one that writes; else tell how many there are."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(call: Callable[..., object]) -> Callable[..., object]:
        def stepping(*arguments: object, **more: object) -> object:
            step()
            return call(*arguments, **more)

        return stepping

    class Halting(io.BufferedWriter):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            half = memoryview(data).nbytes // 2
            super().write(memoryview(data)[:half])
            self.flush()
            step()
            return half + super().write(memoryview(data)[half:])

    os.fdopen = lambda handle, mode: Halting(io.FileIO(handle, mode))  # type: ignore[assignment]  # this process is a child's
    for name in ("open", "fsync", "replace"):
        setattr(os, name, before(getattr(os, name)))
    code = run(line)
    os.write(pipe, f"{code} {steps}".encode())


@pytest.mark.parametrize("old", [None, b"old"], ids=["absent", "old"])
@pytest.mark.parametrize("line", [ENCODE, DECODE, TRAIN], ids=["encode", "decode", "train-base"])
def test_a_killed_command_leaves_what_was_there_or_all_of_the_new(line: str, old: bytes | None, in_child: Child) -> None:
    target = Path(line.split()[-1])
    inputs = {path: path.read_bytes() for path in (Path("photo.png"), Path("photo.coinpp")) if path != target}
    assert run(line) == 0
    complete = target.read_bytes()
    status, said = in_child(lambda pipe: run_until(line, 0, pipe))
    code, steps = map(int, said.split())
    assert (status, code, target.read_bytes()) == (0, 0, complete)
    assert steps >= 6  # opened, written, synchronised, renamed; then the folder, opened and synchronised
    found = set()
    for deadly in range(1, steps + 1):
        target.unlink()
        if old is not None:
            target.write_bytes(old)
        status, _ = in_child(lambda pipe, deadly=deadly: run_until(line, deadly, pipe))
        assert os.WTERMSIG(status) == signal.SIGKILL
        found.add(target.read_bytes() if target.exists() else None)
        assert {path: path.read_bytes() for path in inputs} == inputs
        assert run(line + " --resume" * ("--checkpoint" in line)) == 0
        assert target.read_bytes() == complete
    assert found == {old, complete}
