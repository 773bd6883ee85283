"""Makes `digits.npz` and `digits_resnet.pt` beside this file: `python sample_data/make.py`, with scikit-learn installed; a few seconds.

The digits are scikit-learn's: 1,797 handwritten digits of 8x8 pixels (Alpaydin & Kaynak 1998, UCI, CC BY 4.0). The network is our zoo's resnet8
with convolutions in its shortcuts. The same versions of the libraries on the same kind of processor make the same bytes again.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from compresskit.data import load_data
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.graph import TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build
from compresskit.runtime import seed_everything, set_threads
from compresskit.training import TrainConfig, evaluate, train
from compresskit.writers import write_bytes

FOLDER = Path(__file__).parent
SEED = 0
TEST = 500


def digits() -> bytes:
    """An archive of x_train (1297, 8, 8, 1) uint8, y_train (1297,), x_test (500, 8, 8, 1), y_test, in an order drawn from `SEED`."""
    source = load_digits()
    order = np.random.default_rng(SEED).permutation(len(source.target))
    x = np.rint(source.images * (255 / source.images.max())).astype(np.uint8)[order, :, :, np.newaxis]
    y = source.target.astype(np.uint8)[order]
    stream = io.BytesIO()
    np.savez_compressed(stream, x_train=x[TEST:], y_train=y[TEST:], x_test=x[:TEST], y_test=y[:TEST])
    return stream.getvalue()


def network(archive: Path) -> tuple[bytes, str]:
    """A checkpoint of a network trained on `archive`, and one line about it."""
    set_threads(1)  # more would add up gradients in another order
    seed_everything(SEED)
    data = load_data(archive, input_shape=(1, 8, 8), outputs=10, seed=SEED)
    module = build("resnet8", in_channels=1, shortcut="B")
    train(module, data, TrainConfig(epochs=20, batch_size=64, lr=0.1, precision="fp32", seed=SEED))
    graph = graph_from_module(
        module, [TensorSpec("input", (None, 1, 8, 8))], source="digits_resnet", arch="resnet8", normalization=data.normalization
    )
    assert data.test is not None
    found = evaluate(graph.module, data.test, data.normalization)
    parameters = sum(parameter.numel() for parameter in graph.module.parameters())
    return save_checkpoint(graph), f"{parameters} parameters, test accuracy {found.accuracy:.4f}, 95% interval {found.interval}"


def main() -> None:
    archive = FOLDER / "digits.npz"
    write_bytes(archive, digits(), force=True)
    checkpoint, summary = network(archive)
    write_bytes(FOLDER / "digits_resnet.pt", checkpoint, force=True)
    print(summary)


if __name__ == "__main__":
    main()
