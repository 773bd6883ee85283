"""`quantize` from file to files: what it writes, what it reports, when it refuses to write."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import compresskit
from compresskit.errors import GuardError, InputError, UsageError
from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.models.sessions import run as onnx_run
from compresskit.quantization import engine, pipeline, rounding
from compresskit.quantization.config import QuantizeConfig, QuantizeRequest
from compresskit.quantization.engine import quantize
from compresskit.quantization.pipeline import run
from compresskit.quantization.report import Figures, QuantizeReport
from compresskit.report import Accuracy, Latency

SAMPLE = Path(__file__).parents[2] / "sample_data"
NET, DIGITS = str(SAMPLE / "digits_resnet.pt"), str(SAMPLE / "digits.npz")
CONFIG = QuantizeConfig(samples=64, seed=3)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are taken in a tenth of the time, roundings hardly learned."""
    compare = pipeline.compare
    monkeypatch.setattr(pipeline, "compare", lambda *arguments, **options: compare(*arguments, **{**options, "seconds": 0.05}))
    monkeypatch.setattr(rounding, "STEPS", 5)


@pytest.fixture(scope="session")
def digits_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample network as ONNX."""
    path = tmp_path_factory.mktemp("model") / "digits.onnx"
    path.write_bytes(export_onnx(load_model(NET)).SerializeToString())
    return path


def test_the_sample_keeps_its_accuracy_at_a_third_of_the_size(tmp_path: Path) -> None:
    target = tmp_path / "net.int8.onnx"
    report = run(QuantizeRequest(NET, dataclasses.replace(CONFIG, max_drop=0.01), outputs=(str(target),), data=DIGITS)).report
    assert (report.scheme, report.weights_are, report.activations_are) == ("W8A8", "integers", "integers")
    assert report.device == "cpu"
    assert report.before.accuracy is not None
    assert report.after.accuracy is not None
    assert report.after.accuracy.value >= report.before.accuracy.value - 0.01
    assert report.after.bytes == target.stat().st_size < 0.35 * report.before.bytes
    assert report.integers is not None
    assert report.integers.equal >= 0.999
    assert [row.weight_bits for row in report.layers] == [8] * 10
    assert all(row.weight_sqnr is not None and row.weight_sqnr > 30 for row in report.layers)
    assert all(row.clipped is not None and row.clipped < 0.01 for row in report.layers[:-1])
    assert report.layers[-1].activation_bits is None
    onnx.checker.check_model(onnx.load(target), full_check=True)
    assert QuantizeReport.from_json(report.to_json()) == report


@pytest.mark.parametrize("bits", [8, 4])
def test_a_graph_and_its_onnx_file_give_the_same_model(digits_onnx: Path, bits: int) -> None:
    graph = load_model(NET)
    shape = tuple(size for size in graph.inputs[0].shape[1:] if size is not None)
    data = compresskit.load_data(DIGITS, input_shape=shape, outputs=10, checkpoint_normalization=graph.normalization)
    config = dataclasses.replace(CONFIG, weights=bits, samples=16)
    one, other = quantize(graph, data, config), quantize(onnx.load(digits_onnx), data, config)
    assert one.model.SerializeToString() == other.model.SerializeToString()
    assert compresskit.quantize is quantize


def test_every_layer_s_own_drop_is_reported_on_demand(digits_onnx: Path) -> None:
    config = dataclasses.replace(CONFIG, weights=2, rounding="nearest")
    reports = [run(QuantizeRequest(str(digits_onnx), dataclasses.replace(config, sensitivity=asked), data=DIGITS)).report for asked in (True, False)]
    lost = [row.sensitivity for row in reports[0].layers]
    assert all(value is not None and -0.05 < value <= 1 for value in lost)
    assert max(value for value in lost if value is not None) > 0
    assert {row.sensitivity for row in reports[1].layers} == {None}
    assert QuantizeReport.from_json(reports[0].to_json()) == reports[0]


def test_a_piped_model_comes_back_as_bytes(digits_onnx: Path) -> None:
    outcome = run(QuantizeRequest(digits_onnx.read_bytes(), CONFIG, outputs=("-",)))
    assert outcome.standard_output is not None
    assert outcome.report.after.bytes == len(outcome.standard_output)
    assert (outcome.report.scheme, outcome.report.weights_are, outcome.report.activations_are) == ("W8", "storage", "float")
    assert outcome.report.warnings[0].startswith("no --data to calibrate activations on: only the weights were quantized")


def test_small_widths_are_called_what_they_are(digits_onnx: Path) -> None:
    report = run(QuantizeRequest(str(digits_onnx), dataclasses.replace(CONFIG, weights=4), data=DIGITS)).report
    assert (report.scheme, report.weights_are, report.activations_are) == ("W4A8", "storage", "simulated")
    assert report.warnings[0] == "W4A8 has no integer kernels: weights are packed for storage, activations are simulated in float"
    assert "the operators of opset 20 became those of 21, which the integers need" in report.warnings
    assert sum(row.bytes_after for row in report.layers) < 0.19 * sum(row.bytes_before for row in report.layers)


def test_codebooks_are_called_what_they_are(digits_onnx: Path) -> None:
    report = run(QuantizeRequest(str(digits_onnx), dataclasses.replace(CONFIG, weights=4, codebook=True), data=DIGITS)).report
    assert (report.scheme, report.weights_are, report.activations_are) == ("W4", "indices", "float")
    assert report.warnings[0].startswith("codebooks are storage: the weights become floats when the model is loaded")
    assert report.after.accuracy is not None
    assert sum(row.bytes_after for row in report.layers) < 0.19 * sum(row.bytes_before for row in report.layers)


@pytest.mark.parametrize("data", [None, DIGITS])
@pytest.mark.parametrize("bits", [2, 16])
def test_every_width_goes_from_file_to_file(digits_onnx: Path, data: str | None, bits: int) -> None:
    outcome = run(QuantizeRequest(str(digits_onnx), dataclasses.replace(CONFIG, weights=bits), outputs=("-",), data=data))
    assert outcome.report.after.bytes == len(outcome.standard_output or b"")
    assert {row.weight_bits for row in outcome.report.layers} == {bits}


@pytest.mark.parametrize(("reduce", "overflows", "bits"), [(True, False, 7), (None, True, 7), (None, False, 8), (False, True, 8)])
def test_weights_lose_a_bit_where_sums_overflow(
    monkeypatch: pytest.MonkeyPatch, digits_onnx: Path, reduce: bool | None, overflows: bool, bits: int
) -> None:
    monkeypatch.setattr(engine, "saturates", lambda: overflows)
    report = run(QuantizeRequest(str(digits_onnx), dataclasses.replace(CONFIG, reduce_range=reduce))).report
    assert {row.weight_bits for row in report.layers} == {bits}
    assert any("8-bit products overflow" in warning for warning in report.warnings) == (reduce is None and overflows)


def _figures(accuracy: float, milliseconds: float, metric: str = "top-1") -> Figures:
    return Figures(1000, Accuracy(accuracy, None, None, 100, metric), Latency(milliseconds, milliseconds, 1, 1))


@pytest.mark.parametrize(
    ("config", "after", "message"),
    [
        ({"max_drop": 0.01}, _figures(0.88, 1), r"accuracy fell from 0\.9000 to 0\.8800, by 0\.0200 where --max-drop allows 0\.01: train"),
        ({"max_drop": 0.03}, _figures(0.88, 1), None),
        ({"require_speedup": 1.2}, _figures(0.9, 0.9), r"the result is 1\.11 times as fast \(0\.9 ms, 1 ms before\) where --require-speedup asks"),
        ({"require_speedup": 1.2}, _figures(0.9, 0.5), None),
    ],
)
def test_the_guards(config: dict[str, float], after: Figures, message: str | None) -> None:
    failure = pipeline._guard(QuantizeConfig(**config), _figures(0.9, 1), after)  # type: ignore[arg-type]
    assert (failure is None) == (message is None)
    if message is not None:
        with pytest.raises(GuardError, match=message):
            raise failure  # type: ignore[misc]


def test_an_error_that_rises_is_a_drop_too() -> None:
    failure = pipeline._guard(QuantizeConfig(max_drop=0.1), _figures(2.0, 1, "rmse"), _figures(2.3, 1, "rmse"))
    assert str(failure).startswith("the error rose from 2.0000 to 2.3000, by 0.3000 where --max-drop allows 0.2")


def test_what_a_guard_fails_is_written_all_the_same(tmp_path: Path, digits_onnx: Path) -> None:
    target = tmp_path / "a.onnx"
    outcome = run(QuantizeRequest(str(digits_onnx), dataclasses.replace(CONFIG, require_speedup=1000.0), outputs=(str(target), "-")))
    assert isinstance(outcome.failure, GuardError)
    assert outcome.standard_output == target.read_bytes()
    assert [output.path for output in outcome.report.outputs] == [str(target), "-"]


def test_a_dry_run_writes_nothing(tmp_path: Path, digits_onnx: Path) -> None:
    target = tmp_path / "a.onnx"
    report = run(QuantizeRequest(str(digits_onnx), CONFIG, outputs=(str(target),), dry_run=True)).report
    assert (target.exists(), report.outputs, report.warnings[0]) == (False, (), f"dry run: {target} would be written")


def test_a_model_that_fixes_its_batch(build: Callable[..., onnx.ModelProto], weight: Any, tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Flatten", ["c"], ["f"]), helper.make_node("Gemm", ["f", "v"], ["y"])]
    model = build(nodes, {"w": weight(4, 3, 3, 3), "v": weight(144, 2)}, shape=(3, 3, 8, 8))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.standard_normal((50, 3, 8, 8)).astype(np.float32), y=rng.integers(0, 2, 50))
    report = run(QuantizeRequest(str(tmp_path / "m.onnx"), CONFIG, data=str(tmp_path / "d.npz"))).report
    assert report.after.latency.batch == 3
    assert report.after.accuracy is not None


def test_external_data_are_brought_in(build: Callable[..., onnx.ModelProto], weight: Any, tmp_path: Path) -> None:
    model = build([helper.make_node("Gemm", ["x", "w"], ["y"])], {"w": weight(64, 64)}, shape=("N", 64))
    path, whole = tmp_path / "m.onnx", model.SerializeToString()
    onnx.save_model(model, path, save_as_external_data=True, location="m.bin", size_threshold=0)
    outcome = run(QuantizeRequest(str(path), CONFIG, outputs=("-",)))
    x = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    want, got = (onnx_run(one, {"x": x})[0] for one in (whole, outcome.standard_output or b""))
    assert np.abs(want - got).max() < 0.05 * np.abs(want).max()


def test_what_is_not_ours_is_left_alone_and_listed(build: Callable[..., onnx.ModelProto], weight: Any, tmp_path: Path) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["h"]), helper.make_node("Gelu", ["h"], ["y"], name="gelu", domain="com.microsoft")]
    (tmp_path / "m.onnx").write_bytes(build(nodes, {"w": weight(6, 6)}, shape=("N", 6), domains=["com.microsoft"]).SerializeToString())
    report = run(QuantizeRequest(str(tmp_path / "m.onnx"), CONFIG)).report
    assert [(skip.group, skip.reason) for skip in report.skipped] == [("gelu", "com.microsoft.Gelu is of a custom domain")]


class TestRefusals:
    """Bad models and bad data: the class of the error, and a line that names what is wrong."""

    @pytest.fixture
    def saved(self, tmp_path: Path, build: Callable[..., onnx.ModelProto], weight: Any) -> Callable[..., str]:
        """A small model in a file."""

        def save(shape: tuple[int | str, ...] = ("N", 3, 8, 8), **changes: Any) -> str:
            nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["g"])]
            model = build([*nodes, helper.make_node("Flatten", ["g"], ["y"])], {"w": weight(4, 3, 3, 3)}, shape=shape, **changes)
            (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
            return str(tmp_path / "m.onnx")

        return save

    @pytest.fixture
    def data(self, tmp_path: Path) -> Callable[..., str]:
        """Samples of that model's shape, or others."""

        def save(x: np.ndarray | None = None, count: int = 40) -> str:
            x = np.random.default_rng(0).standard_normal((count, 3, 8, 8)).astype(np.float32) if x is None else x
            np.savez(tmp_path / "d.npz", x=x, y=np.arange(len(x)) % 4)
            return str(tmp_path / "d.npz")

        return save

    def test_a_quantized_model(self, saved: Callable[..., str], data: Callable[..., str], tmp_path: Path) -> None:
        first = str(tmp_path / "q.onnx")
        run(QuantizeRequest(saved(), CONFIG, outputs=(first,), data=data()))
        with pytest.raises(InputError, match=r"q\.onnx: is quantized already"):
            run(QuantizeRequest(first, CONFIG))

    def test_open_sizes(self, saved: Callable[..., str]) -> None:
        path = saved(("N", 3, "H", "W"))
        with pytest.raises(InputError, match=r"leaves sizes open \(\?,3,\?,\?\): say them with --input"):
            run(QuantizeRequest(path, CONFIG))
        assert run(QuantizeRequest(path, CONFIG, input_shape=(3, 8, 8))).report.scheme == "W8"

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.ones((40, 3, 9, 9), np.float32), "shape"),
            (np.zeros((40, 3, 8, 8), np.float32), "every value of the calibration data is 0"),
            (np.full((40, 3, 8, 8), np.nan, np.float32), "finite"),
            (np.ones((1, 3, 8, 8), np.float32), "at least two classes"),
        ],
    )
    def test_data(self, saved: Callable[..., str], data: Callable[..., str], x: np.ndarray, message: str) -> None:
        with pytest.raises(InputError, match=message):
            run(QuantizeRequest(saved(), CONFIG, data=data(x)))

    @pytest.mark.parametrize("with_data", [True, False])
    def test_nothing_to_quantize(self, build: Callable[..., onnx.ModelProto], data: Callable[..., str], tmp_path: Path, with_data: bool) -> None:
        nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Flatten", ["r"], ["y"])]
        (tmp_path / "m.onnx").write_bytes(build(nodes, {}).SerializeToString())
        with pytest.raises(InputError, match=r"m\.onnx: there is nothing to quantize: .+ \(its operators: Flatten, Relu\)"):
            run(QuantizeRequest(str(tmp_path / "m.onnx"), CONFIG, data=data() if with_data else None))

    def test_half_precision(self, build: Callable[..., onnx.ModelProto], weight: Any, data: Callable[..., str], tmp_path: Path) -> None:
        model = build([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": weight(4, 3, 3, 3).astype(np.float16)})
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        for given in (None, data()):
            with pytest.raises(InputError, match=r"m\.onnx: .*(half precision|float16)"):
                run(QuantizeRequest(str(tmp_path / "m.onnx"), CONFIG, data=given))

    def test_few_samples_are_said_to_be_few(self, saved: Callable[..., str], data: Callable[..., str]) -> None:
        report = run(QuantizeRequest(saved(), dataclasses.replace(CONFIG, samples=1), data=data())).report
        assert "ranges were chosen on 1 sample: 16 or more are better" in report.warnings

    def test_several_inputs(self, weight: Any, data: Callable[..., str], tmp_path: Path) -> None:
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", 4)) for name in "xz"]
        nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "z"], ["y"])]
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N", 4))
        graph = helper.make_graph(nodes, "g", inputs, [output], [onnx.numpy_helper.from_array(weight(4, 4), "w")])
        path = tmp_path / "m.onnx"
        path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
        assert run(QuantizeRequest(str(path), CONFIG)).report.scheme == "W8"
        with pytest.raises(InputError, match=r"m\.onnx has 2 inputs: --data serves models with one"):
            run(QuantizeRequest(str(path), CONFIG, data=data()))

    def test_several_outputs_are_calibrated_and_not_measured(self, saved: Callable[..., str], data: Callable[..., str]) -> None:
        path = saved(outputs=("y", "c"))
        report = run(QuantizeRequest(path, CONFIG, data=data())).report
        assert (report.scheme, report.before.accuracy) == ("W8A8", None)
        assert any(warning.startswith("accuracy was not measured") for warning in report.warnings)

    @pytest.mark.parametrize(("asked", "flag"), [({"max_drop": 0.1}, "--max-drop"), ({"sensitivity": True}, "--sensitivity")])
    def test_a_drop_that_cannot_be_measured(self, saved: Callable[..., str], data: Callable[..., str], asked: dict[str, Any], flag: str) -> None:
        with pytest.raises(UsageError, match=f"{flag} needs --data"):
            run(QuantizeRequest(saved(), dataclasses.replace(CONFIG, **asked)))
        with pytest.raises(UsageError, match=rf"{flag}: .+m\.onnx has 2 outputs"):
            run(QuantizeRequest(saved(outputs=("y", "c")), dataclasses.replace(CONFIG, **asked), data=data()))

    @pytest.mark.parametrize("bits", [1, 17, 0, -8])
    @pytest.mark.parametrize("what", ["weights", "activations"])
    def test_widths(self, bits: int, what: str) -> None:
        with pytest.raises(UsageError, match=f"--{what} takes 2 to 16 bits, not {bits}"):
            QuantizeConfig(**{what: bits})  # type: ignore[arg-type]

    def test_an_architecture_for_onnx(self, saved: Callable[..., str]) -> None:
        with pytest.raises(UsageError, match="an ONNX model says its architecture itself"):
            run(QuantizeRequest(saved(), CONFIG, arch="resnet20"))

    def test_what_is_no_model(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_bytes(json.dumps({"no": "model"}).encode())
        for model in (str(tmp_path / "m.onnx"), str(tmp_path / "missing.onnx"), b"noise"):
            with pytest.raises(InputError):
                run(QuantizeRequest(model, CONFIG))
