"""Full disk, little memory: `prune` ends with one line and exit 3, and what should be written is there whole or not at all."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from compresskit.cli.app import main
from compresskit.cli.console import Console
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.load import load_model

SAMPLE = Path(__file__).parents[2] / "sample_data/digits_resnet.pt"
PRUNE = [sys.executable, "-m", "compresskit.cli", "prune"]
ROOM = 256 << 20
NOT_ENOUGH = "not enough memory: a smaller model, input or --batch-size needs less"

# The disk lives as long as the shell: what is on it goes to the standard output in the end.
ON_A_DISK_OF_1_MB = """
mount -t tmpfs -o size=1m tmpfs "$0" && cd "$0" && head -c 800000 /dev/zero > filler && printf old > old.onnx || exit
"$@" >&2
code=$?
tar cf - .
exit $code
"""


@pytest.fixture
def disk(tmp_path: Path) -> list[str]:
    """What to put before a command for it to run on a disk of 1 MB, of which 0.2 are free."""
    command = ["unshare", "-rm", "sh", "-c", ON_A_DISK_OF_1_MB, str(tmp_path)]
    try:
        subprocess.run([*command, "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    return command


def test_a_disk_that_fills_up_keeps_what_was_there_and_what_is_whole(disk: list[str]) -> None:
    """One output fits, the next does not."""
    outputs = ["-o", "first.onnx", "-o", "old.onnx", "-o", "third.pt"]
    done = subprocess.run([*disk, *PRUNE, str(SAMPLE), "--flops", "0.5", "-q", "--force", *outputs], capture_output=True)
    assert (done.returncode, done.stderr) == (3, b"compresskit: error: cannot write old.onnx: no space left on device\n")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        members = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        files = {name: stream.read() for name, stream in members.items() if stream}
    assert set(files) == {"./filler", "./first.onnx", "./old.onnx"}
    assert files["./old.onnx"] == b"old"
    onnx.checker.check_model(onnx.load_from_string(files["./first.onnx"]), full_check=True)


def _huge_file() -> list[str]:
    with open("huge.onnx", "wb") as stream:
        stream.truncate(1 << 30)  # takes no space on the disk
    return ["huge.onnx"]


def _huge_activations() -> list[str]:
    graph = load_model(SAMPLE)
    (spec,) = graph.inputs
    Path("wide.pt").write_bytes(save_checkpoint(replace(graph, inputs=(replace(spec, shape=(None, 1, 4096, 4096)),))))
    return ["wide.pt"]


def _huge_data() -> list[str]:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 24, 8, 8)})
    with zipfile.ZipFile("d.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
        archive.writestr("y.npy", b"")
    return [str(SAMPLE), "--data", "d.npz"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit is not kept")
@pytest.mark.parametrize(
    ("arrange", "said"),
    [(_huge_file, NOT_ENOUGH), (_huge_activations, NOT_ENOUGH), (_huge_data, "not enough memory for d.npz[x]: use fewer samples")],
    ids=["file", "activations", "data"],
)
def test_what_does_not_fit_in_memory_is_one_line(
    arrange: Callable[[], list[str]], said: str, tmp_path: Path, in_child: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["prune", *arrange(), "--flops", "0.5", "-q", "-o", "small.onnx"]
    before = set(tmp_path.iterdir())

    def work(pipe: int) -> None:
        torch.set_num_threads(1)
        limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        out, err = io.StringIO(), io.StringIO()
        code = main(arguments, Console(stdin=io.BytesIO(), stdout=out, stderr=err, environ={"HOME": "/nonexistent"}))
        os.write(pipe, json.dumps([code, out.getvalue(), err.getvalue()]).encode())

    status, written = in_child(work)
    assert (status, json.loads(written)) == (0, [3, "", f"compresskit: error: {said}\n"])
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit is not kept")
def test_a_process_with_next_to_no_memory_is_one_line(tmp_path: Path) -> None:
    """It is the many small things that fail here, wherever they happen to be."""
    script = (
        "import resource, sys, onnxruntime, compresskit.pruning.pipeline\n"
        "from compresskit.cli.app import run\n"
        "limit = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + (32 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "run()\n"
    )
    command = [sys.executable, "-c", script, "prune", SAMPLE, "--flops", "0.5", "-q", "-o", "small.onnx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"compresskit: error: {NOT_ENOUGH}\n")
    assert not list(tmp_path.iterdir())
