"""Top-1 accuracy of the published CIFAR-10 weights in our zoo: `python tests/benchmarks/zoo_accuracy.py WEIGHTS_FOLDER CIFAR10.npz`.

Writes results/zoo_accuracy.json beside this script. The archive holds x_test (N, 32, 32, 3) uint8 and y_test (N,). `stated` is what the
authors of the weights say of all 10,000 test images, `measured` what these N images give, with the half width of its 95% interval.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from common import cpu
from safetensors import safe_open
from safetensors.torch import load_file

from compresskit.models.zoo import build_for_state, suggest
from compresskit.runtime import set_threads, versions

RESULT = Path(__file__).parent / "results" / "zoo_accuracy.json"
STATED = {
    "cifar10_resnet20_akamaster": 0.9173,
    "cifar10_resnet20_chenyaofo": 0.9260,
    "cifar10_resnet32_akamaster": 0.9263,
    "cifar10_resnet44_akamaster": 0.9310,
    "cifar10_resnet56_akamaster": 0.9339,
    "cifar10_resnet56_chenyaofo": 0.9437,
    "cifar10_shufflenetv2_x0_5_chenyaofo": 0.9013,
}


def measure(path: Path, images: torch.Tensor, labels: torch.Tensor) -> dict[str, object]:
    """One row: the network that the weights ask for, and how many of `images` (N, 3, 32, 32), 0 to 1, it gets right."""
    state = load_file(path)
    arch = suggest({key: tuple(value.shape) for key, value in state.items()})[0]
    module = build_for_state(arch, state).eval()
    with safe_open(path, "pt") as file:
        mean, std = (torch.tensor([float(part) for part in file.metadata()[key].split(",")]).reshape(3, 1, 1) for key in ("mean", "std"))
    started = time.perf_counter()
    with torch.inference_mode():
        found = torch.cat([module((batch - mean) / std).argmax(1) for batch in images.split(250)])
    accuracy = (found == labels).double().mean().item()
    return {
        "weights": path.stem,
        "arch": arch,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "stated": STATED[path.stem],
        "measured": round(accuracy, 4),
        "interval": round(1.96 * (accuracy * (1 - accuracy) / len(labels)) ** 0.5, 4),
        "seconds": round(time.perf_counter() - started, 1),
    }


def main(folder: str, archive: str) -> None:
    threads = set_threads(1)
    with np.load(archive, allow_pickle=False) as data:
        images = torch.from_numpy(data["x_test"].transpose(0, 3, 1, 2) / np.float32(255))
        labels = torch.from_numpy(data["y_test"])
    rows = []
    for path in sorted(Path(folder).glob("cifar10_*.safetensors")):
        rows.append(measure(path, images, labels))
        print(rows[-1], file=sys.stderr)
    command = f"python tests/benchmarks/zoo_accuracy.py {Path(folder).name} {Path(archive).name}"
    machine = {"cpu": cpu(), "threads": threads}
    result = {"command": command, "versions": versions(), "machine": machine, "images": len(labels), "rows": rows}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
