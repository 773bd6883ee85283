"""Published CIFAR-10 networks as W8A8, ours beside ONNX Runtime's own: `python tests/benchmarks/ptq.py WEIGHTS_FOLDER CIFAR10.npz`.

For each network: float, ours, and `onnxruntime.quantization.quantize_static` (QDQ, QUInt8 activations, QInt8 weights by channel, otherwise its
defaults), calibrated on the same training images. Accuracy on the archive's test images in ONNX Runtime, where 5,000 images tell two models
apart from 0.3 points on; `agreement` (the same class as float) and `noise` (mean square of the change of the logits over their variance) tell
finer, and are given for every calibration method on the first 1,000. Times of one image in one thread: each model twice, in turns of two orders,
since whoever runs behind the float model finds the caches full of it. `aims` says what was asked for, `met` what came out.
"""

from __future__ import annotations

import argparse
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

from compresskit.data import Dataset, load_data, normalize
from compresskit.models.graph import Normalization
from compresskit.models.latency import time_runs
from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.models.sessions import open_session
from compresskit.quantization.calibrate import draw_samples
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.engine import Quantized, quantize, quantize_static
from compresskit.quantization.ranges import METHODS
from compresskit.runtime import set_threads

NETS = ("cifar10_resnet20_akamaster", "cifar10_resnet20_chenyaofo", "cifar10_resnet56_akamaster", "cifar10_resnet56_chenyaofo")
NORMALIZATION = {
    "akamaster": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "chenyaofo": Normalization((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}
FEW = 1000
AIMS = {"drop": 0.001, "latency_over_peer": 1.02, "speedup": 1.4}


class Reader(CalibrationDataReader):
    """Feeds the peer."""

    def __init__(self, name: str, x: np.ndarray) -> None:
        self._feeds: Iterator[dict[str, np.ndarray]] = iter([{name: part} for part in np.split(x, range(16, len(x), 16))])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def theirs(model: onnx.ModelProto, x: np.ndarray) -> bytes:
    """ONNX Runtime's static quantization."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        peer(source, target, Reader(model.graph.input[0].name, x), quant_format=QuantFormat.QDQ, per_channel=True, **kinds)
        return target.read_bytes()


def with_method(done: Quantized, method: str) -> bytes:
    """The same statistics, ranges chosen otherwise."""
    assert done.plan is not None
    return quantize_static(done.network, done.plan, done.statistics, weights=8, activations=8, method=method).model.SerializeToString()


def logits(model: bytes, x: np.ndarray) -> np.ndarray:
    """What a model says of images."""
    session = open_session(model)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: part})[0] for part in np.split(x, range(50, len(x), 50))])


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


def measure(path: Path, data: Dataset, seconds: float) -> dict[str, Any]:
    """One network."""
    model = export_onnx(load_model(path, arch=path.stem.split("_")[1]))
    config = QuantizeConfig()
    began = time.perf_counter()
    done = quantize(model, data, config)
    took = time.perf_counter() - began
    images = draw_samples(data, config.samples, config.seed)(0, config.samples)
    began = time.perf_counter()
    models = {"float": model.SerializeToString(), "ours": done.model.SerializeToString(), "quantize_static": theirs(model, images)}
    peer_took = time.perf_counter() - began
    test = data.test or data.validation
    x, y = normalize(torch.from_numpy(test.x), data.normalization).numpy(), test.y
    said = {which: logits(one, x) for which, one in models.items()}
    quality = {which: compared(one, said["float"], y) for which, one in said.items()}
    few = slice(FEW)
    methods = {method: compared(logits(with_method(done, method), x[few]), said["float"][few], y[few]) for method in METHODS}
    times = timed(models, {model.graph.input[0].name: x[:1]}, seconds)
    p50, p90 = ({which: round(float(np.percentile(run, at)) * 1e3, 4) for which, run in times.items()} for at in (50, 90))
    assert done.integrity is not None
    return {
        "net": path.stem,
        **{which: {**quality[which], "bytes": len(models[which]), "p50_ms": p50[which], "p90_ms": p90[which]} for which in models},
        "by_calibration": methods,
        "runs": len(times["float"]),
        "drop": round(quality["float"]["accuracy"] - quality["ours"]["accuracy"], 4),
        "speedup": round(p50["float"] / p50["ours"], 3),
        "latency_over_peer": round(p50["ours"] / p50["quantize_static"], 3),
        "integers": {"equal": done.integrity.equal, "worst": done.integrity.worst},
        "seconds": {"ours": round(took, 1), "quantize_static": round(peer_took, 1)},
    }


def met(row: dict[str, Any]) -> dict[str, bool]:
    """Which aims a network's figures meet."""
    return {
        "drop": row["drop"] <= AIMS["drop"],
        "accuracy_of_peer": row["ours"]["accuracy"] >= row["quantize_static"]["accuracy"],
        "latency_over_peer": row["latency_over_peer"] <= AIMS["latency_over_peer"],
        "speedup": row["speedup"] >= AIMS["speedup"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--nets", nargs="+", default=NETS)
    parser.add_argument("--seconds", type=float, default=5.0, help="for the timing of each model")
    parser.add_argument("--output", type=Path, default=RESULTS / "ptq.json")
    options = parser.parse_args()
    set_threads(1)
    onnxruntime.set_default_logger_severity(4)
    rows = []
    for net in options.nets:
        normalization = NORMALIZATION[net.rpartition("_")[2]]
        data = load_data(options.archive, input_shape=(3, 32, 32), outputs=10, normalization=normalization)
        rows.append(measure(options.folder / f"{net}.safetensors", data, options.seconds))
        rows[-1]["met"] = met(rows[-1])
        print(rows[-1], file=sys.stderr, flush=True)
        settings = {"images": len((data.test or data.validation).x), "calibration_images": QuantizeConfig.samples}
        write(options.output, {**heading(1), **settings, "aims": AIMS, "rows": rows})


if __name__ == "__main__":
    main()
