"""`quantize --size` and `--bit-ops` from file to file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from compresskit.data import Dataset
from compresskit.errors import TargetError, UsageError
from compresskit.quantization.config import QuantizeConfig, QuantizeRequest
from compresskit.quantization.pipeline import run
from compresskit.quantization.report import QuantizeReport


@pytest.fixture
def files(tmp_path: Path, residual: onnx.ModelProto, data: Dataset, config: QuantizeConfig) -> QuantizeRequest:
    onnx.save(residual, tmp_path / "m.onnx")
    parts = {"train": data.train, "test": data.validation}
    np.savez(tmp_path / "d.npz", **{f"{axis}_{name}": getattr(split, axis) for name, split in parts.items() for axis in "xy"})
    names = (str(tmp_path / name) for name in ("m.onnx", "d.npz", "q.onnx"))
    model, samples, output = names
    few = replace(config, size=0.2, epochs=1.0)
    return QuantizeRequest(model, config=few, data=samples, outputs=(output,), mean=(0.0,), std=(1.0,), threads=1)


def test_a_size_is_hit_and_reported(files: QuantizeRequest) -> None:
    report = run(files).report
    assert report.target is not None
    assert (report.target.kind, report.target.requested) == ("size", 0.2)
    assert 0.98 * 0.2 <= report.target.reached <= 0.2
    assert report.scheme == "W2-8A8"
    assert report.weights_are == "storage"
    assert report.path
    assert report.path[-1].cost <= 0.2
    assert len({row.weight_bits for row in report.layers}) > 1
    assert QuantizeReport.from_json(report.to_json()) == report
    kinds = {tensor.data_type for tensor in onnx.load(files.outputs[0]).graph.initializer}
    assert kinds & {TensorProto.INT4, TensorProto.INT2}


def test_bit_operations_too_with_activations_of_few_bits(files: QuantizeRequest) -> None:
    report = run(replace(files, config=replace(files.config, size=None, bit_ops=0.0175, activations=4))).report
    assert report.target is not None
    assert (report.target.kind, report.scheme) == ("bit-ops", "W2-8A4")
    assert 0.98 * 0.0175 <= report.target.reached <= 0.0175


def test_a_target_between_what_whole_layers_allow_is_said_to_be_missed(files: QuantizeRequest) -> None:
    outcome = run(replace(files, config=replace(files.config, size=None, bit_ops=0.04)))
    assert any("the nearest to 0.0400" in warning for warning in outcome.report.warnings)
    assert outcome.report.outputs


def test_a_size_below_2_bits_names_the_floor_and_writes_nothing(files: QuantizeRequest) -> None:
    with pytest.raises(TargetError, match=r"--size 0\.03 is out of reach: weights of 2 bits everywhere come to 0\.08"):
        run(replace(files, config=replace(files.config, size=0.03)))
    assert not Path(files.outputs[0]).exists()


def test_without_data(files: QuantizeRequest) -> None:
    with pytest.raises(UsageError, match="--size learns widths: give --data"):
        run(replace(files, data=None))


@pytest.mark.parametrize("wrong", [{"bit_ops": 0.1}, {"size": 0.0}, {"size": 1.0}, {"size": -0.5}, {"size": None, "bit_ops": 2.0}])
def test_settings_that_make_no_sense(config: QuantizeConfig, wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"--size|--bit-ops"):
        replace(replace(config, size=0.2), **wrong)
