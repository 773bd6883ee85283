"""The published CIFAR-10 weights load under their own key names and classify as published.

All 5,000 test images at once are the business of `tests/benchmarks/zoo_accuracy.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from compresskit.models.zoo import build_for_state, suggest

SHARED = Path(__file__).parents[3] / "../shared/data"
FILES = sorted((SHARED / "models").glob("cifar10_*.safetensors"))
pytestmark = pytest.mark.skipif(not FILES, reason="the published weights are not here")

# Right answers among the first 500 test images must reach the published accuracy less 3 standard errors.
SMALL = {"resnet20_akamaster": 0.9173, "resnet20_chenyaofo": 0.9260, "shufflenetv2_x0_5_chenyaofo": 0.9013}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_published_weights_find_their_architecture_and_load(path: Path) -> None:
    state = load_file(path)
    name = suggest({key: tuple(value.shape) for key, value in state.items()})[0]
    assert name.replace("_", "") in path.stem.replace("_", "")
    loaded = build_for_state(name, state).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


@pytest.mark.parametrize("stem", SMALL)
def test_published_accuracy_on_500_images(stem: str) -> None:
    path = SHARED / "models" / f"cifar10_{stem}.safetensors"
    images, labels = _first_images()
    with safe_open(path, "pt") as file:
        mean, std = (torch.tensor([float(part) for part in file.metadata()[key].split(",")]).reshape(3, 1, 1) for key in ("mean", "std"))
    module = build_for_state("shufflenet_v2_x0_5" if "shuffle" in stem else "resnet20", load_file(path)).eval()
    with torch.no_grad():
        right = (module((images - mean) / std).argmax(1) == labels).float().mean().item()
    published = SMALL[stem]
    assert right > published - 3 * (published * (1 - published) / len(labels)) ** 0.5


def _first_images() -> tuple[torch.Tensor, torch.Tensor]:
    with Image.open(SHARED / "cifar10/test_000.webp") as strip:
        pixels = np.asarray(strip.convert("RGB")).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)
    with np.load(SHARED / "cifar10/labels.npz", allow_pickle=False) as labels:
        return torch.from_numpy(pixels / np.float32(255)), torch.from_numpy(labels["test"][: len(pixels)].astype(np.int64))
