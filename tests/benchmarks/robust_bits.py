"""The thesis's Table 4.1 with short schedules: `python tests/benchmarks/robust_bits.py RESNET20.safetensors VGG.pt CIFAR10.npz`.

Two networks that are trained already (the published ResNet-20; a small VGG-like one, which is trained first where VGG.pt does not exist) are
trained on for a few epochs: without a penalty, with Defensive Quantization, with the L2 and with the L1 norm of the gradient, each at the
largest strength that holds the accuracy on validation, and with the straight-through estimator at each of three widths. Each result is then
quantized after training to (8,4), (6,4) and (4,4) bits of weights and activations, weights to the nearest integers: as this package does
("ours": a scale a channel, ranges of least squared error, corrected biases), and plainly, with a scale a tensor and the whole range ("plain",
nearer to the thesis). Rows are kept as they come in results/robust_bits.json; one that is there is not repeated. A picture is drawn beside
it. Seconds of a step are in the trials, that without a penalty first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from cifar import lifted, load, part
from common import RESULTS, Row, collect
from matplotlib.figure import Figure
from torch import nn

from compresskit.data import Dataset
from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.quantization.bitwidths.learn import with_widths
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.engine import quantize
from compresskit.quantization.grid import symmetric
from compresskit.quantization.measure import onnx_accuracy
from compresskit.quantization.network import Network
from compresskit.quantization.prepare import prepare
from compresskit.quantization.qat.engine import train_quantized
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.robust.config import RobustConfig, RobustMethod
from compresskit.quantization.robust.train import make_robust
from compresskit.quantization.static import planned
from compresskit.runtime import set_threads
from compresskit.training import TrainConfig, train

WIDTHS = ((8, 4), (6, 4), (4, 4))
PENALTIES: tuple[RobustMethod, ...] = ("none", "l1", "l2", "dq")
VGG_WIDTHS = (16, 32, 64)
VGG_IMAGES, VGG_EPOCHS = 20000, 8.0
TESTED = 2000

Way = Callable[[Network, Dataset], tuple[Network, dict[str, Any]]]
"""Training further: the network that comes of it, and what else was found."""


def vgg(widths: tuple[int, ...] = VGG_WIDTHS, classes: int = 10) -> nn.Module:
    """Pairs of 3x3 convolutions between pools, each with its norm, and one linear layer."""
    layers: list[nn.Module] = []
    channels = 3
    for width in widths:
        for source in (channels, width):
            layers += [nn.Conv2d(source, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * (32 >> len(widths)) ** 2, classes))


def trained_vgg(path: Path, data: Dataset) -> nn.Module:
    """The VGG-like network, from `path` or trained and kept there."""
    torch.manual_seed(0)
    module = vgg()
    if path.exists():
        module.load_state_dict(torch.load(path, weights_only=True))
    else:
        train(module, part(data, train=VGG_IMAGES), TrainConfig(epochs=VGG_EPOCHS, lr=0.1, augment="crop-flip"))
        torch.save(module.state_dict(), path)
    return module.eval()


def tested(network: Network, data: Dataset, seed: int) -> dict[str, dict[str, float]]:
    """Accuracy after training at every width, quantized as this package does, and plainly."""
    model = network.to_model()
    found: dict[str, dict[str, float]] = {"ours": {"FP": accuracy(model, data)}, "plain": {"FP": accuracy(model, data)}}
    for weights, activations in WIDTHS:
        config = QuantizeConfig(weights=weights, activations=activations, rounding="nearest", reduce_range=False, seed=seed)
        width = f"({weights},{activations})"
        found["ours"][width] = accuracy(quantize(model, data, config).model, data)
        found["plain"][width] = accuracy(plainly(quantize(model, data, replace(config, calibration="minmax", equalize="no")), weights).model, data)
    return found


def plainly(start: Quantized, bits: int) -> Quantized:
    """The same with one scale for all channels of a weight, as in the thesis."""
    grids = {}
    for name, grid in start.weights.items():
        whole = symmetric(start.network.constants[name], bits)
        grids[name] = replace(grid, scale=np.full_like(grid.scale, whole.scale), low=whole.low, high=whole.high)
    return with_widths(start, grids)


def accuracy(model: onnx.ModelProto, data: Dataset) -> float:
    return round(onnx_accuracy(model.SerializeToString(), model.graph.input[0].name, data, batch=None, threads=1).value, 4)


def with_penalty(network: Network, data: Dataset, method: RobustMethod, epochs: float, seed: int) -> tuple[Network, dict[str, Any]]:
    done = make_robust(network, planned(network, "net"), data, RobustConfig(method=method, epochs=epochs, seed=seed))
    return done.network, {"strength": done.strength, "trials": [asdict(one) for one in done.trials]}


def with_ste(network: Network, data: Dataset, width: tuple[int, int], epochs: float, seed: int) -> tuple[Network, dict[str, Any]]:
    weights, activations = width
    config = QuantizeConfig(
        weights=weights, activations=activations, method="ste", rounding="nearest", reduce_range=False, epochs=epochs, distill=0.0, seed=seed
    )
    start = quantize(network.to_model(), data, replace(config, method="ptq"))
    done = train_quantized(start, data, config)
    return done.network, {"own width": accuracy(done.model, data)}


def ways(epochs: float, seed: int) -> dict[str, Way]:
    found: dict[str, Way] = {"as it is": lambda network, data: (network, {})}
    found |= {name: partial(with_penalty, method=name, epochs=epochs, seed=seed) for name in PENALTIES}
    return found | {f"STE @ ({w},{a})": partial(with_ste, width=(w, a), epochs=epochs, seed=seed) for w, a in WIDTHS}


def nets(options: argparse.Namespace, whole: Dataset) -> Iterator[tuple[str, onnx.ModelProto, Dataset]]:
    """The networks asked for, trained, with as many images as they are trained on further."""
    for net in options.nets:
        published = net == "ResNet-20"
        graph = load_model(options.resnet, arch="resnet20") if published else lifted(trained_vgg(options.vgg, whole), net)
        yield net, export_onnx(graph), part(whole, train=options.images[0 if published else 1])


def jobs(options: argparse.Namespace, whole: Dataset) -> Iterator[tuple[tuple[str, str], Callable[[], Row]]]:
    """Every way of training every network further; a network is read, or trained first, when its turn comes."""
    for net, model, data in nets(options, whole):
        network = prepare(model, net)
        for way, make in ways(options.epochs, options.seed).items():
            yield (net, way), partial(measure, net, way, network, data, make, options.seed)


def measure(net: str, way: str, network: Network, data: Dataset, make: Way, seed: int) -> Row:
    """One row."""
    began = time.process_time()
    trained, found = make(network, data)
    took = round(time.process_time() - began, 1)
    return {"net": net, "way": way, "accuracy": tested(trained, data, seed), **found, "CPU seconds": took}


def draw(rows: list[Row], path: Path) -> None:
    named = list(dict.fromkeys(row["net"] for row in rows))
    figure = Figure(figsize=(11, 4.2 * len(named)), layout="constrained")
    for pair, net in zip(figure.subplots(len(named), 2, squeeze=False), named, strict=True):
        for axes, how in zip(pair, ("ours", "plain"), strict=True):
            for row in (row for row in rows if row["net"] == net):
                values = [100 * value for value in row["accuracy"][how].values()]
                dashed = "--" if row["way"].startswith("STE") else "-"
                axes.plot(list(row["accuracy"][how]), values, dashed, marker="o", markersize=3.5, label=row["way"])
            axes.set_title(f"{net}, quantized after training: {how}", fontsize=10)
            axes.set_xlabel("bits of (weights, activations)")
            axes.set_ylabel("test accuracy, %")
            axes.grid(alpha=0.3)
            axes.legend(fontsize=7)
    figure.savefig(path, dpi=150)


def asked(description: str | None, output: str) -> argparse.Namespace:
    """What the command line says of networks and of training them, and where the rows go."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("resnet", type=Path)
    parser.add_argument("vgg", type=Path)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--nets", nargs="+", default=("VGG-like", "ResNet-20"))
    parser.add_argument("--images", type=int, nargs=2, default=(2560, 10240), help="to train ResNet-20 and the VGG-like network on")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / output)
    return parser.parse_args()


def common_settings(options: argparse.Namespace) -> dict[str, Any]:
    """What is the same for all rows."""
    return {"images": options.images, "epochs": options.epochs, "seed": options.seed, "tested": TESTED}


def key(row: Row) -> tuple[str, str]:
    """The network, and what was done to it."""
    return row["net"], row["way"]


def main() -> None:
    options = asked(__doc__, "robust_bits.json")
    set_threads(1)
    whole = part(load(options.archive), validation=2000, test=TESTED)
    rows = collect(options.output, 1, common_settings(options), jobs(options, whole), key, lambda rows: {})
    draw(rows, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
