"""Published networks as W8A8, ours beside ONNX Runtime's own: `python tests/benchmarks/ptq.py DATA_FOLDER CIFAR10.npz`.

DATA_FOLDER holds models/*.safetensors, onnx/*.onnx and mnist_fashion/; the archive is CIFAR-10.

For each network: float, ours, and `onnxruntime.quantization.quantize_static` (QDQ, QUInt8 activations, QInt8 weights by channel, otherwise its
defaults), calibrated on the same training images, after its `quant_pre_process`. Accuracy on the test images in ONNX Runtime, where 5,000 tell
two models apart from 0.3 points on; `agreement` (the same class as float) and `noise` (mean square of the change of the logits over their
variance) tell finer. Calibration methods are compared by them on 1,000 training images that were not calibrated on: the default is chosen by
those. Times of one sample in one thread: each model twice, in turns of two orders, since whoever runs behind the float model finds the caches
full of it. `aims` says what was asked for, `met` what came out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from common import RESULTS, heading, write
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
from onnxruntime.quantization import quantize_static as peer
from onnxruntime.quantization.shape_inference import quant_pre_process

from compresskit.data import Dataset, load_data, normalize
from compresskit.models.graph import Normalization
from compresskit.models.latency import time_runs
from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.models.onnx_parse import read_inputs
from compresskit.models.onnx_safety import read_onnx
from compresskit.models.sessions import open_session
from compresskit.quantization.calibrate import Samples, draw_samples
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.engine import quantize
from compresskit.quantization.network import Network
from compresskit.quantization.prepare import LOWEST_OPSET, converted
from compresskit.quantization.quantized import Quantized
from compresskit.quantization.ranges import METHODS
from compresskit.quantization.static import quantize_static
from compresskit.runtime import set_threads

NETS = ("cifar10_resnet20_akamaster", "cifar10_resnet20_chenyaofo", "cifar10_resnet56_akamaster", "cifar10_resnet56_chenyaofo")
NORMALIZATION = {
    "akamaster": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "chenyaofo": Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}
PIXELS = Normalization((0.0,), (1.0,))
SPREAD = Normalization((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))
FILES = {
    "cifar10_cnn_biasfield_base": SPREAD,
    "cifar10_marabou_medium": PIXELS,
    "cifar10_oval_deep": Normalization((0.485, 0.456, 0.406), (0.225, 0.225, 0.225)),
    "cifar10_resnet_2b": SPREAD,
    "cifar10_vit_pgd_2_3_16": NORMALIZATION["chenyaofo"],
    "mnist_cnn_wonnx_opt-mnist": Normalization((0.0,), (1 / 255,)),
    "mnist_fc_256x2": PIXELS,
}
MNIST = "mnist_fashion/mnist_t10k_first7500.npz"
FEW = 1000
AIMS = {"drop": 0.001, "latency_over_peer": 1.02, "speedup": 1.4}


class Reader(CalibrationDataReader):
    """Feeds the peer."""

    def __init__(self, name: str, x: np.ndarray, batch: int) -> None:
        self._feeds: Iterator[dict[str, np.ndarray]] = iter([{name: part} for part in np.split(x, range(batch, len(x), batch))])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def theirs(model: onnx.ModelProto, x: np.ndarray) -> bytes | str:
    """ONNX Runtime's static quantization, or its error."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(converted(model, LOWEST_OPSET, "the peer's"), source)
        quant_pre_process(source, source, skip_symbolic_shape=True)
        batch = Network.of(model).fixed_batch or 16
        kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        try:
            peer(source, target, Reader(Network.of(model).inputs[0], x, batch), quant_format=QuantFormat.QDQ, per_channel=True, **kinds)
        except ValueError as error:
            return f"fails: {error}"
        return target.read_bytes()


def with_method(done: Quantized, method: str) -> bytes:
    """The same statistics, ranges chosen otherwise."""
    assert done.plan is not None
    return quantize_static(done.network, done.plan, done.statistics, weights=8, activations=8, method=method).model.SerializeToString()


def logits(model: bytes, x: np.ndarray) -> np.ndarray:
    """What a model says of images."""
    session = open_session(model)
    given = session.get_inputs()[0]
    batch = given.shape[0] if isinstance(given.shape[0], int) else 50
    found = [session.run(None, {given.name: np.resize(part, (batch, *x.shape[1:]))})[0] for part in np.split(x, range(batch, len(x), batch))]
    return np.concatenate(found).reshape(-1, found[0].shape[-1])[: len(x)]


def compared(found: np.ndarray, wanted: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Accuracy of logits, and how near they are to the float model's."""
    classes = found.argmax(1)
    return {
        "accuracy": round(float((classes == y).mean()), 4),
        "agreement": round(float((classes == wanted.argmax(1)).mean()), 4),
        "noise": float(f"{((found - wanted) ** 2).mean() / wanted.var():.3g}"),
    }


def timed(models: dict[str, bytes], feeds: dict[str, np.ndarray], seconds: float) -> dict[str, np.ndarray]:
    """Seconds of every run of the three models, from turns in two orders."""
    first, *others = models
    order = [first, *others, first, *reversed(others)]
    runs = time_runs([models[which] for which in order], feeds, threads=1, warmup=20, seconds=seconds / 2)
    return {which: np.concatenate([run for name, run in zip(order, runs, strict=True) if name == which]) for which in models}


def read(folder: Path, archive: Path, net: str) -> tuple[onnx.ModelProto, Dataset]:
    """One network, and what it is for."""
    if net not in FILES:
        model = export_onnx(load_model(folder / f"models/{net}.safetensors", arch=net.split("_")[1]))
        normalization = NORMALIZATION[net.rpartition("_")[2]]
    else:
        model, normalization = read_onnx((folder / f"onnx/{net}.onnx").read_bytes(), folder=folder / "onnx"), FILES[net]
    shape = tuple(size for size in read_inputs(model, net, None)[0].shape[1:] if size is not None)
    source = folder / MNIST if net.startswith("mnist") else archive
    return model, load_data(source, input_shape=shape, outputs=10, normalization=normalization)


def others(data: Dataset, config: QuantizeConfig) -> Samples:
    """Training images that `quantize` does not calibrate on."""
    rest = np.setdiff1d(np.arange(len(data.train)), draw_samples(data, config.samples, config.seed).chosen)
    return Samples(data, rest[:FEW])


def measure(net: str, model: onnx.ModelProto, data: Dataset, seconds: float) -> dict[str, Any]:
    """One network."""
    config = QuantizeConfig()
    began = time.perf_counter()
    done = quantize(model, data, config)
    took = time.perf_counter() - began
    images = draw_samples(data, config.samples, config.seed)(0, config.samples)
    began = time.perf_counter()
    models = {"float": model.SerializeToString(), "ours": done.model.SerializeToString()}
    other = theirs(model, images)
    if isinstance(other, bytes):
        models["quantize_static"] = other
    peer_took = time.perf_counter() - began
    test = data.test or data.validation
    x, y = normalize(torch.from_numpy(test.x), data.normalization).numpy(), test.y
    said = {which: logits(one, x) for which, one in models.items()}
    quality = {which: compared(one, said["float"], y) for which, one in said.items()}
    seen = others(data, config)
    few, labels = seen(0, len(seen)), data.train.y[seen.chosen]
    wanted = logits(models["float"], few)
    methods = {method: compared(logits(with_method(done, method), few), wanted, labels) for method in METHODS}
    network = Network.of(model)
    times = timed(models, {network.inputs[0]: x[: network.fixed_batch or 1]}, seconds)
    p50, p90 = ({which: round(float(np.percentile(run, at)) * 1e3, 4) for which, run in times.items()} for at in (50, 90))
    assert done.integrity is not None
    return {
        "net": net,
        "images": len(x),
        "equalized": done.equalized,
        **{which: {**quality[which], "bytes": len(models[which]), "p50_ms": p50[which], "p90_ms": p90[which]} for which in models},
        **({} if isinstance(other, bytes) else {"quantize_static": other}),
        "by_calibration": methods,
        "runs": len(times["float"]),
        "drop": round(quality["float"]["accuracy"] - quality["ours"]["accuracy"], 4),
        "speedup": round(p50["float"] / p50["ours"], 3),
        **({"latency_over_peer": round(p50["ours"] / p50["quantize_static"], 3)} if isinstance(other, bytes) else {}),
        "integers": {"equal": done.integrity.equal, "worst": done.integrity.worst},
        "seconds": {"ours": round(took, 1), "quantize_static": round(peer_took, 1)},
    }


def met(row: dict[str, Any]) -> dict[str, bool]:
    """Which aims a network's figures meet."""
    alone = {"drop": row["drop"] <= AIMS["drop"], "speedup": row["speedup"] >= AIMS["speedup"]}
    if "latency_over_peer" not in row:
        return alone
    accurate = row["ours"]["accuracy"] >= row["quantize_static"]["accuracy"]
    return {**alone, "accuracy_of_peer": accurate, "latency_over_peer": row["latency_over_peer"] <= AIMS["latency_over_peer"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--nets", nargs="+", default=(*NETS, *FILES))
    parser.add_argument("--seconds", type=float, default=5.0, help="for the timing of each model")
    parser.add_argument("--resume", action="store_true", help="keep the rows of networks that the output has")
    parser.add_argument("--output", type=Path, default=RESULTS / "ptq.json")
    options = parser.parse_args()
    set_threads(1)
    onnxruntime.set_default_logger_severity(4)
    rows = json.loads(options.output.read_text())["rows"] if options.resume and options.output.exists() else []
    for net in [net for net in options.nets if net not in {row["net"] for row in rows}]:
        rows.append(measure(net, *read(options.folder, options.archive, net), options.seconds))
        rows[-1]["met"] = met(rows[-1])
        print(rows[-1], file=sys.stderr, flush=True)
        write(options.output, {**heading(1), "calibration_images": QuantizeConfig.samples, "aims": AIMS, "rows": rows})


if __name__ == "__main__":
    main()
