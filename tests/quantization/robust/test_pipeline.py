from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compresskit.errors import GuardError, InputError, UsageError
from compresskit.models.load import load_model
from compresskit.quantization.config import QuantizeConfig
from compresskit.quantization.robust.config import RobustConfig, RobustRequest
from compresskit.quantization.robust.pipeline import run
from compresskit.quantization.robust.report import RobustReport
from compresskit.quantization.sweep import run as sweep
from compresskit.quantization.sweep_request import SweepRequest, parse_widths

CONFIG = RobustConfig(strength=1e-3, epochs=1, batch_size=32, learning_rate=1e-4)


@pytest.fixture
def files(tmp_path: Path, residual: onnx.ModelProto) -> RobustRequest:
    """The residual network, and samples that it puts into classes as it should."""
    from compresskit.models.sessions import run as infer

    onnx.save(residual, tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((200, 3, 8, 8)).astype(np.float32)
    (scores,) = infer(residual.SerializeToString(), {"x": x})
    y = scores.argmax(1)
    np.savez(tmp_path / "d.npz", x_train=x[:100], y_train=y[:100], x_test=x[100:], y_test=y[100:])
    return RobustRequest(str(tmp_path / "m.onnx"), config=CONFIG, data=str(tmp_path / "d.npz"), mean=(0.0,), std=(1.0,), threads=1)


def test_every_format_holds_the_same_float_model(files: RobustRequest, tmp_path: Path) -> None:
    names = tuple(str(tmp_path / name) for name in ("r.onnx", "r.pt", "r.safetensors"))
    outcome = run(replace(files, outputs=names))
    report = outcome.report
    assert [output.format for output in report.outputs] == ["onnx", "pt", "safetensors"]
    assert outcome.failure is None
    (x,) = load_model(names[0]).example(4)
    results = [load_model(name).module.eval()(x) for name in names]
    for result in results[1:]:
        np.testing.assert_allclose(result.detach().numpy(), results[0].detach().numpy(), atol=1e-5)
    assert not any(tensor.data_type in (TensorProto.INT8, TensorProto.UINT8) for tensor in onnx.load(names[0]).graph.initializer)
    assert load_model(names[1]).normalization is not None
    assert RobustReport.from_json(report.to_json()) == report
    assert (report.strength, len(report.trials), report.before.count) == (1e-3, 2, 100)


def test_what_was_written_can_be_swept(files: RobustRequest, tmp_path: Path) -> None:
    robust = str(tmp_path / "r.pt")
    run(replace(files, outputs=(robust,)))
    points = parse_widths("8,4", QuantizeConfig(samples=32, rounding="nearest"))
    report = sweep(SweepRequest(robust, configs=points, data=files.data, threads=1)).report  # the checkpoint knows the normalization
    assert report.accuracy.value > 0.9
    assert report.rows[0].accuracy.value > 0.8


def test_the_standard_output(files: RobustRequest) -> None:
    outcome = run(replace(files, outputs=("-",)))
    assert outcome.standard_output is not None
    onnx.checker.check_model(onnx.load_from_string(outcome.standard_output), full_check=True)


def test_a_dry_run_writes_nothing_and_says_so(files: RobustRequest, tmp_path: Path) -> None:
    outcome = run(replace(files, outputs=(str(tmp_path / "r.pt"), "-"), dry_run=True))
    assert outcome.standard_output is None
    assert not (tmp_path / "r.pt").exists()
    assert any("dry run" in warning for warning in outcome.report.warnings)


def test_accuracy_that_falls_too_far_is_a_failure(files: RobustRequest, tmp_path: Path) -> None:
    config = replace(CONFIG, strength=30.0, learning_rate=0.03, epochs=2, max_drop=0.01)
    outcome = run(replace(files, config=config, outputs=(str(tmp_path / "r.pt"),)))
    assert isinstance(outcome.failure, GuardError)
    assert (tmp_path / "r.pt").stat().st_size == outcome.report.outputs[0].bytes


def test_checkpoints_go_when_the_model_is_there(files: RobustRequest, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    run(replace(files, checkpoint=str(tmp_path / "kept" / "state"), outputs=(str(tmp_path / "r.pt"),)))
    assert not list((tmp_path / "kept").iterdir())


def test_without_data(files: RobustRequest) -> None:
    with pytest.raises(UsageError, match="--robust trains: give --data"):
        run(replace(files, data=None))


def test_models_that_cannot_be_trained(files: RobustRequest, residual: onnx.ModelProto, tmp_path: Path) -> None:
    double = onnx.ModelProto()
    double.CopyFrom(residual)
    double.graph.output.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, ["N", 16]))
    onnx.save(double, tmp_path / "two.onnx")
    with pytest.raises(InputError, match="2 outputs"):
        run(replace(files, model=str(tmp_path / "two.onnx")))
    bare = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", *([helper.make_tensor_value_info(name, 1, ["N", 4])] for name in "xy"))
    onnx.save(helper.make_model(bare, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), tmp_path / "bare.onnx")
    with pytest.raises(InputError, match="nothing to quantize"):
        run(replace(files, model=str(tmp_path / "bare.onnx")))


def test_no_strength_that_holds_is_said(files: RobustRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compresskit.quantization.robust.train._strengths", lambda loss, penalty: [1e30])
    report = run(replace(files, config=replace(CONFIG, strength=None))).report
    assert report.strength == 0
    assert any("no strength of the penalty held" in warning for warning in report.warnings)
