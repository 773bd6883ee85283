"""Published ONNX files with labels, of old opsets, with other layouts and fixed batches: integers say what floats said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compresskit.data import load_data
from compresskit.models.graph import Normalization
from compresskit.models.onnx_parse import read_inputs
from compresskit.models.onnx_safety import read_onnx
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.engine import quantize
from compresskit.quantization.measure import onnx_accuracy
from compresskit.quantization.network import Network, opset_of

SHARED = Path(__file__).parents[2] / "../shared/data"
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))
FILES = {
    "cifar10_cnn_biasfield_base": CIFAR,
    "cifar10_marabou_medium": ((0.0,), (1.0,)),
    "cifar10_resnet_2b": CIFAR,
    "cifar10_vit_pgd_2_3_16": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "mnist_cnn_wonnx_opt-mnist": ((0.0,), (1 / 255,)),
    "mnist_fc_256x2": ((0.0,), (1.0,)),
}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A few hundred images of each set."""
    images = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("data")
    labels = np.load(SHARED / "cifar10/labels.npz")
    strip = np.asarray(images.open(SHARED / "cifar10/test_000.webp").convert("RGB"))
    pixels = strip.reshape(-1, 32, 32, 3)
    np.savez(folder / "cifar10.npz", x=pixels.transpose(0, 3, 1, 2), y=labels["test"][: len(pixels)])
    digits = np.load(SHARED / "mnist_fashion/mnist_t10k_first7500.npz")
    np.savez(folder / "mnist.npz", x=digits["images"][:500], y=digits["labels"][:500])
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data are not here")
@pytest.mark.parametrize("name", FILES)
def test_a_published_file_keeps_its_accuracy(name: str, archives: dict[str, Path]) -> None:
    model = read_onnx((SHARED / f"onnx/{name}.onnx").read_bytes(), folder=SHARED / "onnx")
    (spec,) = read_inputs(model, name, None)
    shape = tuple(size for size in spec.shape[1:] if size is not None)
    data = load_data(archives[name.split("_")[0]], input_shape=shape, outputs=10, normalization=Normalization(*FILES[name]))
    done = quantize(model, data, QuantizeConfig(samples=32, calibration="minmax", equalize="no"))
    assert opset_of(model) < 13 <= opset_of(done.model)
    batch = Network.of(model).fixed_batch
    before, after = (onnx_accuracy(one.SerializeToString(), spec.name, data, batch=batch, threads=1).value for one in (model, done.model))
    assert before > 0.4
    assert after >= before - 0.05
