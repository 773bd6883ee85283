"""How long the command takes, and how much memory: `python tests/benchmarks/speed.py WEIGHTS`, the published ResNet-56 in safetensors.

Each command runs as a process of its own, `--runs` times: wall seconds, user seconds and peak resident memory, medians; "within" says
whether the median is inside the budget. The last row times only the analysis, inside one process: torch.export and lift, then groups.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import RESULTS, heading, write

ROOT = Path(__file__).parents[2]
ARCH = "resnet56"
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Timed:
    """What one process took: seconds, and mebibytes at its peak."""

    wall: float
    user: float
    memory: float


def run(arguments: list[str]) -> Timed:
    """Run `compresskit` with `arguments` in the root of the repository, and wait for it.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [str(Path(sys.executable).with_name("compresskit")), *arguments]
    began = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise subprocess.CalledProcessError(process.returncode, command, stderr=errors.read().decode())
    unit = 1 if sys.platform == "darwin" else 1024
    return Timed(wall, usage.ru_utime, usage.ru_maxrss * unit / MEBIBYTE)


def row(what: str, budget: float, walls: list[float]) -> dict[str, Any]:
    median = statistics.median(walls)
    return {"what": what, "budget_seconds": budget, "within": median <= budget, "wall": round(median, 2), "walls": [round(wall, 2) for wall in walls]}


def of_process(what: str, budget: float, arguments: list[str], runs: int) -> dict[str, Any]:
    timed = [run(arguments) for _ in range(runs)]
    user, memory = statistics.median(one.user for one in timed), statistics.median(one.memory for one in timed)
    return {**row(what, budget, [one.wall for one in timed]), "user": round(user, 2), "peak_mebibytes": round(memory)}


def of_analysis(weights: Path, threads: int, runs: int) -> dict[str, Any]:
    # Imported here, after the processes have run: a child's peak memory is never below what its parent had when it started.
    from safetensors.torch import load_file

    from compresskit.models.graph import TensorSpec
    from compresskit.models.lift import graph_from_module
    from compresskit.models.zoo import build_for_state
    from compresskit.pruning.groups import find_groups
    from compresskit.runtime import set_threads

    set_threads(threads)
    module = build_for_state(ARCH, load_file(weights))
    walls = []
    for _ in range(runs):
        began = time.perf_counter()
        find_groups(graph_from_module(module, (TensorSpec("input", (None, 3, 32, 32)),), source=ARCH))
        walls.append(time.perf_counter() - began)
    return row(f"lift and groups of {ARCH}", 3.0, walls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "speed.json")
    options = parser.parse_args()
    weights, sample = options.weights.resolve(), "sample_data/digits_resnet.pt"
    with tempfile.TemporaryDirectory() as folder:
        written = ["-f", "-T", str(options.threads), "-o", str(Path(folder) / "small.onnx")]
        commands = {
            "--help": (0.3, ["--help"]),
            f"prune {sample} --flops 0.5": (15.0, ["prune", sample, "--flops", "0.5", *written]),
            f"prune {sample} --flops 0.5 --data sample_data/digits.npz": (
                60.0,
                ["prune", sample, "--flops", "0.5", "--data", "sample_data/digits.npz", *written],
            ),
            f"prune {weights.name} --arch {ARCH} --flops 0.5": (15.0, ["prune", str(weights), "--arch", ARCH, "--flops", "0.5", *written]),
        }
        rows = []
        for what, (budget, arguments) in commands.items():
            rows.append(of_process(f"compresskit {what}", budget, arguments, options.runs))
            print(rows[-1], file=sys.stderr, flush=True)
    rows.append(of_analysis(weights, options.threads, options.runs))
    load = [round(value, 1) for value in os.getloadavg()]
    write(options.output, {**heading(options.threads), "runs": options.runs, "load_average": load, "rows": rows})


if __name__ == "__main__":
    main()
