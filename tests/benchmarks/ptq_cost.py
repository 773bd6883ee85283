"""What `compresskit quantize` takes, whole processes: `python tests/benchmarks/ptq_cost.py DATA_FOLDER CIFAR10.npz`.

Seconds on the clock and of the processors, and the memory of the command and its children together (the sum of their proportional set sizes,
looked at five times a second), for W8A8 of published ResNets by the number of images that they are calibrated on. On a machine that is busy with
other things the processors' seconds tell more than the clock's. `aims` says what was asked for.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import RESULTS, heading, write

RUNS = (("cifar10_resnet20_akamaster", 256), ("cifar10_resnet20_akamaster", 10_000), ("cifar10_resnet56_akamaster", 256))
"""Networks, and images to calibrate on."""
AIMS = {"seconds_of_resnet56": 20, "bytes_at_10000_images": 1_000_000_000}
COMMAND = "from compresskit.cli.app import run; run()"
MEAN, STD = ".485,.456,.406", ".229,.224,.225"


def family(process: int) -> list[int]:
    """A process and its descendants."""
    found = [process]
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            found += [one for child in task.read_text().split() for one in family(int(child))]
        except OSError:  # it ended
            continue
    return found


def memory(process: int) -> int:
    """Bytes that a process and its descendants take together."""
    total = 0
    for one in family(process):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def measure(arguments: list[str]) -> dict[str, Any]:
    """Run the command once."""
    began, before = time.perf_counter(), os.times()
    child = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.DEVNULL)
    most = 0
    while child.poll() is None:
        most = max(most, memory(child.pid))
        time.sleep(0.2)
    if child.returncode:
        raise SystemExit(f"exit {child.returncode}: {' '.join(arguments)}")
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": round(time.perf_counter() - began, 1), "processor_seconds": round(used, 1), "peak_bytes": most}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("archive", type=Path)
    options = parser.parse_args()
    rows = []
    for net, samples in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            what = [str(options.folder / f"models/{net}.safetensors"), "--arch", net.split("_")[1], "--data", str(options.archive)]
            how = ["--mean", MEAN, "--std", STD, "--samples", str(samples), "-T", "1", "--seed", "0", "-q"]
            rows.append({"net": net, "samples": samples, **measure(["quantize", *what, *how, "-o", f"{folder}/m.onnx"])})
        print(rows[-1], file=sys.stderr, flush=True)
        write(RESULTS / "ptq_cost.json", {**heading(1), "aims": AIMS, "rows": rows})


if __name__ == "__main__":
    main()
