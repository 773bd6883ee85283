from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from compresskit.errors import GuardError, InputError, UsageError
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.sweep import SweepReport, run
from compresskit.quantization.sweep_request import SweepRequest, parse_widths

CONFIG = QuantizeConfig(samples=32, rounding="nearest")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, residual: onnx.ModelProto) -> tuple[str, str]:
    """The residual network, and samples that it puts into classes as it should."""
    folder = tmp_path_factory.mktemp("sweep")
    onnx.save(residual, folder / "m.onnx")
    x = np.random.default_rng(0).standard_normal((200, 3, 8, 8)).astype(np.float32)
    from onnxruntime import InferenceSession

    y = InferenceSession(residual.SerializeToString()).run(None, {"x": x})[0].argmax(1)
    np.savez(folder / "d.npz", x_train=x[:100], y_train=y[:100], x_test=x[100:], y_test=y[100:])
    return str(folder / "m.onnx"), str(folder / "d.npz")


def request(files: tuple[str, str], widths: str = "8,4:6", config: QuantizeConfig = CONFIG, **more: object) -> SweepRequest:
    return SweepRequest(files[0], configs=parse_widths(widths, config), data=files[1], mean=(0.0,), std=(1.0,), **more)  # type: ignore[arg-type]


def test_widths_are_pairs_or_alike() -> None:
    assert [(one.weights, one.activations) for one in parse_widths("8, 6,4:8,2", CONFIG)] == [(8, 8), (6, 6), (4, 8), (2, 2)]
    assert {one.samples for one in parse_widths("8,4", CONFIG)} == {32}


@pytest.mark.parametrize("text", ["", "8,", "8;4", "8:4:2", "w8", "8.5", "-4", "8,8", "4:4,4", "1", "17", "8:1", "999"])
def test_widths_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match=r"--sweep|--weights|--activations"):
        parse_widths(text, CONFIG)


def test_a_row_a_width_and_no_file(files: tuple[str, str]) -> None:
    outcome = run(request(files, "8,6,3:8"))
    report = outcome.report
    assert [(row.weights, row.activations) for row in report.rows] == [(8, 8), (6, 6), (3, 8)]
    assert report.accuracy.value == 1.0
    assert report.rows[0].accuracy.value > 0.9
    assert report.rows[0].accuracy.value >= report.rows[2].accuracy.value
    assert report.rows[0].bytes > report.rows[2].bytes
    assert outcome.standard_output is None
    assert not report.outputs
    assert SweepReport.from_json(report.to_json()) == report
    assert "weights" not in json.loads(report.to_json())["settings"]
    assert {path.name for path in Path(files[0]).parent.iterdir()} == {"m.onnx", "d.npz"}


def test_rows_are_what_quantize_makes(files: tuple[str, str]) -> None:
    from compresskit.quantization.config import QuantizeRequest
    from compresskit.quantization.pipeline import run as quantize

    (config,) = parse_widths("5:7", CONFIG)
    alone = quantize(QuantizeRequest(files[0], config=config, data=files[1], mean=(0.0,), std=(1.0,), dry_run=True)).report.after
    (row,) = run(request(files, "5:7")).report.rows
    assert (row.accuracy, row.bytes) == (alone.accuracy, alone.bytes)


def test_the_smallest_that_is_accurate_enough_is_written(files: tuple[str, str], tmp_path: Path) -> None:
    config = QuantizeConfig(samples=32, rounding="nearest", max_drop=0.5)
    outcome = run(request(files, "8,3:8", config, outputs=(str(tmp_path / "best.onnx"),)))
    chosen = [row for row in outcome.report.rows if row.allowed]
    written = onnx.load(tmp_path / "best.onnx")
    assert (tmp_path / "best.onnx").stat().st_size == min(row.bytes for row in chosen)
    assert TensorProto.INT4 in {tensor.data_type for tensor in written.graph.initializer}


def test_where_no_width_is_accurate_enough_the_most_accurate_is_written(files: tuple[str, str], tmp_path: Path) -> None:
    config = QuantizeConfig(samples=32, rounding="nearest", max_drop=0.0)
    outcome = run(request(files, "2,3", config, outputs=(str(tmp_path / "best.onnx"),)))
    best = max(outcome.report.rows, key=lambda row: row.accuracy.value)
    assert isinstance(outcome.failure, GuardError)
    assert f"{best.accuracy.value:.4f} at W{best.weights}A{best.activations} is the best" in str(outcome.failure)
    assert (tmp_path / "best.onnx").stat().st_size == best.bytes


def test_what_cannot_be_swept(files: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="give --data"):
        SweepRequest(files[0], configs=(CONFIG,))
    with pytest.raises(UsageError, match="--max-drop with -o"):
        SweepRequest(files[0], configs=(CONFIG,), data=files[1], outputs=("x.onnx",))


def test_a_model_of_two_outputs(files: tuple[str, str], residual: onnx.ModelProto, tmp_path: Path) -> None:
    double = onnx.ModelProto()
    double.CopyFrom(residual)
    double.graph.output.append(onnx.helper.make_tensor_value_info("f", TensorProto.FLOAT, ["N", 16]))
    onnx.save(double, tmp_path / "two.onnx")
    with pytest.raises(InputError, match="2 outputs"):
        run(request((str(tmp_path / "two.onnx"), files[1])))
