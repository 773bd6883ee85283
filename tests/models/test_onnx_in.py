"""Whole models: imported, they compute what ONNX Runtime computes on the file."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from compresskit.errors import InputError
from compresskit.models.graph import ModelGraph
from compresskit.models.onnx_batch import retarget
from compresskit.models.onnx_in import import_onnx

SHARED = Path(__file__).parents[2] / "../shared/data/onnx"
FILES = [
    "FastestDet",
    "acasxu_1_1",
    "cifar10_cnn_biasfield_base",
    "cifar10_marabou_medium",
    "cifar10_oval_deep",
    "cifar10_resnet_2b",
    "cifar10_vit_pgd_2_3_16",
    "mnist_cnn_wonnx_opt-mnist",
    "mnist_fc_256x2",
    "rul_cnn_window_20",
    "ultraface_RFB-320",
    "ultraface_slim-320",
    "yunet_n_320",
]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def run_file(model: onnx.ModelProto, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {slot.name: value.numpy() for slot, value in zip(session.get_inputs(), inputs, strict=True)})


def run_graph(graph: ModelGraph, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    with torch.no_grad():
        result = graph.module(*inputs)
    return [value.numpy() for value in (result if isinstance(result, tuple) else (result,))]


def assert_equal(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, atol=1e-5, rtol=1.3e-6)


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_computes_what_it_did(name: str) -> None:
    path = SHARED / f"{name}.onnx"
    if not path.exists():
        pytest.skip("shared data is not here")
    model = onnx.load(path)
    graph = import_onnx(model, source=path.name)
    sizes = [[dim.dim_value or None for dim in value.type.tensor_type.shape.dim] for value in model.graph.input if value.name == graph.inputs[0].name]
    assert [list(graph.inputs[0].shape)] == sizes
    assert [spec.name for spec in graph.outputs] == [value.name for value in model.graph.output]
    assert graph.free_batch
    inputs = graph.example(2)
    alone = [run_file(model, tuple(value[i : i + 1] for value in inputs)) for i in range(2)]
    assert_equal(run_graph(graph, inputs), [np.concatenate(parts) for parts in zip(*alone, strict=True)])


@pytest.mark.parametrize("name", ["silero_vad", "silero_vad_16k_op15"])
def test_control_flow_is_refused_by_name(name: str) -> None:
    path = SHARED / f"{name}.onnx"
    if not path.exists():
        pytest.skip("shared data is not here")
    with pytest.raises(InputError, match=r"not supported: If \(node '"):
        import_onnx(onnx.load(path), source=path.name)


# nets as PyTorch exports them


class Residual(nn.Module):
    """Batch norms that the exporter keeps, squeeze and excitation, a channel shuffle, dense links."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.stem(x))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        batch, channels, height, width = x.shape
        y = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)
        left, right = y.chunk(2, dim=1)
        z = F.hardswish(self.norm(torch.cat([x, F.leaky_relu(right), F.elu(left)], dim=1)))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(z, 1), 1))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.out = nn.Conv2d(10, 2, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = F.silu(self.norm(self.down(x)))
        skip = F.interpolate(y, scale_factor=2, mode="nearest")
        z = self.out(F.pad(torch.cat([x, self.up(y), skip], 1), (1, 1, 1, 1)))
        return z, F.avg_pool2d(y, 3, 2, 1, ceil_mode=True)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.positions = nn.Parameter(torch.randn(1, 5, 12))
        self.first, self.qkv, self.out = nn.LayerNorm(12), nn.Linear(12, 36), nn.Linear(12, 12)
        self.second, self.mlp = nn.LayerNorm(12), nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 12))
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        batch, length, width = x.shape
        q, k, v = self.qkv(self.first(x)).view(batch, length, 3, 3, width // 3).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = torch.softmax(q @ k.transpose(-2, -1) * 0.5, -1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        x = x + self.mlp(self.second(x))
        return self.head(x[:, 0])


class Attention(nn.Module):
    """PyTorch's own attention: batch and heads share an axis, then batch and tokens do."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(x, x, x)[0]


NETS = {"residual": (Residual, (3, 10, 8)), "unet": (UNet, (2, 8, 12)), "transformer": (Transformer, (3, 8, 8)), "attention": (Attention, (5, 12))}


def export(
    net: nn.Module, shape: tuple[int, ...], opset: int, *, dynamo: bool = False, open_batch: bool = False, fold: bool = True
) -> onnx.ModelProto:
    example = torch.randn(2 if open_batch and dynamo else 1, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("batch")},) if open_batch else None
            program = torch.onnx.export(net, (example,), opset_version=opset, dynamo=True, dynamic_shapes=shapes, verbose=False)
            assert program is not None
            return program.model_proto
        axes = {"input": {0: "batch"}} if open_batch else None
        buffer = io.BytesIO()
        torch.onnx.export(
            net, (example,), buffer, opset_version=opset, dynamo=False, dynamic_axes=axes, input_names=["input"], do_constant_folding=fold
        )
        return onnx.load_from_string(buffer.getvalue())


def fresh(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(0)
    make, shape = NETS[name]
    net = make()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval(), shape


@pytest.mark.parametrize(("opset", "open_batch"), [(9, False), (11, True), (13, False), (17, True), (20, False)])
@pytest.mark.parametrize("name", NETS)
def test_nets_of_the_legacy_exporter(name: str, opset: int, open_batch: bool) -> None:
    if name == "attention" and opset < 13:
        pytest.skip("PyTorch does not export it there")
    net, shape = fresh(name)
    model = export(net, shape, opset, open_batch=open_batch, fold=opset != 13)
    graph = import_onnx(model, source=name)
    assert graph.free_batch
    assert graph.inputs[0].shape[0] == (None if open_batch else 1)
    assert_equal(run_graph(graph, graph.example(1)), run_file(model, graph.example(1)))
    inputs = graph.example(3)
    assert_equal(run_graph(graph, inputs), [value.detach().numpy() for value in torch.utils._pytree.tree_leaves(net(*inputs))])


@pytest.mark.parametrize(("name", "opset"), [("residual", 18), ("transformer", 20)])
def test_nets_of_the_default_exporter(name: str, opset: int) -> None:
    pytest.importorskip("onnxscript")
    net, shape = fresh(name)
    model = export(net, shape, opset, dynamo=True, open_batch=opset == 18)
    graph = import_onnx(model, source=name)
    assert graph.free_batch
    assert_equal(run_graph(graph, graph.example(1)), run_file(model, graph.example(1)))
    assert_equal(run_graph(graph, graph.example(3)), [net(*graph.example(3)).detach().numpy()])


def test_parameters_keep_their_names_and_layers_are_leaves() -> None:
    net, shape = fresh("transformer")
    graph = import_onnx(export(net, shape, 17), source="t")
    kinds = {str(node.target): type(graph.module.get_submodule(node.target)) for node in graph.module.graph.nodes if node.op == "call_module"}
    assert kinds == {
        "patches": nn.Conv2d,
        "first": nn.LayerNorm,
        "qkv": nn.Linear,
        "out": nn.Linear,
        "second": nn.LayerNorm,
        "mlp.0": nn.Linear,
        "mlp.2": nn.Linear,
        "head": nn.Linear,
    }
    assert dict(graph.module.named_parameters()).keys() == dict(net.named_parameters()).keys()


# graphs made by hand


def make(nodes: list[onnx.NodeProto], stored: dict[str, np.ndarray], shape: list[int | str | None], opset: int = 17) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_value_info(nodes[-1].output[0], helper.make_tensor_type_proto(TensorProto.FLOAT, None))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_a_batch_that_means_something_stays_fixed() -> None:
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["s"]), helper.make_node("Add", ["x", "s"], ["y"])]
    graph = import_onnx(make(nodes, {"axes": np.array([0])}, [2, 3]), source="m")
    assert not graph.free_batch
    assert graph.inputs[0].shape == graph.outputs[0].shape == (2, 3)
    x = torch.randn(2, 3)
    assert torch.allclose(graph.module(x), x + x.sum(0))


@pytest.mark.parametrize(
    ("target", "shape", "carrier", "baked", "freed"),
    [
        ([1, 58, 2, 44], (1, 116, 44), 0, 1, [7, 58, 2, 44]),
        ([24, 2, 44], (1, 48, 44), 0, 1, [-1, 2, 44]),  # groups join the batch
        ([65, 3, 64], (65, 1, 192), 1, 1, [65, -1, 64]),  # heads join the batch
        ([65, 192], (65, 3, 64), 1, 1, [-1, 192]),  # the batch joins the tokens
        ([65, 1, 192], (65, 192), 0, 1, [65, 7, 192]),  # and leaves them
        ([4, -1], (2, 10), 0, 2, [14, -1]),
        ([-1, 10], (2, 10), 0, 2, [-1, 10]),
    ],
)
def test_reshapes_follow_the_batch(target: list[int], shape: tuple[int, ...], carrier: int, baked: int, freed: list[int]) -> None:
    found = retarget(np.array(target), shape, carrier, baked, 7)
    assert found.tolist() == freed
    batched = torch.zeros([size * 7 // baked if axis == carrier else size for axis, size in enumerate(shape)])
    assert batched.reshape(found.tolist()).numel() == batched.numel()


def test_a_baked_class_token_follows_the_batch() -> None:
    nodes = [helper.make_node("Concat", ["token", "x"], ["y"], axis=1)]
    graph = import_onnx(make(nodes, {"token": np.ones((1, 1, 3), np.float32)}, [1, 4, 3]), source="m")
    assert graph.free_batch
    assert graph.module(torch.zeros(5, 4, 3)).shape == (5, 5, 3)


def test_equal_constants_of_different_layers_are_not_tied() -> None:
    rng = np.random.default_rng(0)
    stored = {"one": np.ones(3, np.float32), "zero": np.zeros(3, np.float32)} | {name: rng.random(3).astype(np.float32) for name in ("m", "n")}
    nodes = [
        helper.make_node("BatchNormalization", ["x", "one", "zero", "m", "one"], ["a"], name="first"),
        helper.make_node("BatchNormalization", ["a", "one", "zero", "n", "one"], ["y"], name="second"),
    ]
    model = make(nodes, stored, [1, 3, 4])
    graph = import_onnx(model, source="m")
    assert {"first.weight", "second.weight"} <= dict(graph.module.named_parameters()).keys()
    assert_equal(run_graph(graph, graph.example(1)), run_file(model, graph.example(1)))


def test_one_layer_called_twice_stays_one() -> None:
    weight, bias = np.eye(3, dtype=np.float32) * 2, np.ones(3, np.float32)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["a"]), helper.make_node("Gemm", ["a", "w", "b"], ["y"])]
    graph = import_onnx(make(nodes, {"w": weight, "b": bias}, [1, 3]), source="m")
    assert sum(p.numel() for p in graph.module.parameters()) == 12
    assert torch.equal(graph.module(torch.ones(1, 3)), torch.full((1, 3), 7.0))


def test_an_added_bias_belongs_to_its_layer_unless_the_product_is_used_too() -> None:
    stored = {"w": np.ones((3, 2), np.float32), "b": np.array([1, 2], np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["b", "p"], ["y"])]
    fused = import_onnx(make(nodes, stored, [1, 4, 3]), source="m")
    assert [node.op for node in fused.module.graph.nodes] == ["placeholder", "call_module", "output"]
    nodes.append(helper.make_node("Mul", ["y", "p"], ["z"]))
    model = make(nodes, stored, [1, 4, 3])
    apart = import_onnx(model, source="m")
    assert_equal(run_graph(apart, apart.example(1)), run_file(model, apart.example(1)))


def test_open_sizes_can_be_said() -> None:
    model = make([helper.make_node("Relu", ["x"], ["y"])], {}, ["n", 3, "h", "w"])
    with pytest.raises(InputError, match=r"input 'x' leaves sizes open \(\?,3,\?,\?\)"):
        import_onnx(model, source="m")
    assert import_onnx(model, source="m", input_shape=(3, 5, 7)).inputs[0].shape == (None, 3, 5, 7)
    with pytest.raises(InputError, match="does not fit"):
        import_onnx(model, source="m", input_shape=(4, 5, 7))


# what is refused


def refusal(model: onnx.ModelProto) -> str:
    with pytest.raises(InputError) as caught:
        import_onnx(model, source="bad.onnx")
    message = str(caught.value)
    assert message.startswith("bad.onnx: ")
    assert "\n" not in message
    return message


def test_every_unknown_operator_is_named_at_once() -> None:
    nodes = [
        helper.make_node("LSTM", ["x"], ["a"], name="memory"),
        helper.make_node("QuickGelu", ["a"], ["b"], domain="com.microsoft"),
        helper.make_node("linear", ["b", "b"], ["y"]),
    ]
    message = refusal(make(nodes, {}, [1, 3]))
    assert "LSTM (node 'memory'), com.microsoft.QuickGelu (node 'QuickGelu_1'), linear (node 'linear_2')" in message


@pytest.mark.parametrize("opset", [7, 25])
def test_the_ends_of_the_opsets_are_read(opset: int) -> None:
    graph = import_onnx(make([helper.make_node("Relu", ["x"], ["y"])], {}, [1, 3], opset), source="m.onnx")
    x = torch.tensor([[-1.0, 0.0, 2.0]])
    assert torch.equal(graph.module(x), x.relu())


@pytest.mark.parametrize("opset", [6, 26])
def test_unknown_opsets_are_refused(opset: int) -> None:
    assert f"opset {opset}" in refusal(make([helper.make_node("Relu", ["x"], ["y"])], {}, [1, 3], opset))


BOMBS = {
    "expand": ([helper.make_node("Expand", ["x", "s"], ["y"])], {"s": np.array([1 << 20, 1 << 20, 3])}),
    "tile": ([helper.make_node("Tile", ["x", "s"], ["y"])], {"s": np.array([1, 1 << 40])}),
    "pad": ([helper.make_node("Pad", ["x", "s"], ["y"])], {"s": np.array([0, 0, 0, 1 << 40])}),
    "folded": (
        [helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])],
        {"s": np.array([1 << 15, 1 << 15, 3])},
    ),
    "indices": ([helper.make_node("Range", ["a", "b", "c"], ["r"]), helper.make_node("Gather", ["x", "r"], ["y"])], {"a": 0, "b": 1 << 50, "c": 1}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_are_allocated(name: str) -> None:
    nodes, stored = BOMBS[name]
    assert "node '" in refusal(make(nodes, {key: np.asarray(value, np.int64) for key, value in stored.items()}, [1, 3]))


def test_a_resize_bomb_is_refused() -> None:
    node = helper.make_node("Resize", ["x", "", "s"], ["y"])
    assert "Resize_0" in refusal(make([node], {"s": np.array([1, 1, 1e9, 1e9], np.float32)}, [1, 3, 8, 8]))


@pytest.mark.parametrize("dims", [[3, 5], [1 << 40], [-1, 3], [2]])
def test_an_initializer_is_as_long_as_its_shape(dims: list[int]) -> None:
    model = make([helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.ones(3, np.float32)}, [1, 3])
    model.graph.initializer[0].dims[:] = dims
    assert "initializer 'w'" in refusal(model)


def test_unread_kinds_of_tensors_are_refused() -> None:
    model = make([helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.ones(3, np.float32)}, [1, 3])
    model.graph.initializer[0].data_type = TensorProto.FLOAT8E4M3FN
    assert "FLOAT8E4M3FN" in refusal(model)
    model.graph.initializer[0].data_type = TensorProto.FLOAT
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    assert "another file" in refusal(model)


BROKEN = {
    "shapes that do not fit": [helper.make_node("Conv", ["x", "w"], ["y"], name="it")],
    "a missing value": [helper.make_node("Relu", ["nothing"], ["y"], name="it")],
    "a missing input": [helper.make_node("Gemm", ["x"], ["y"], name="it")],
    "a shape that hangs on data": [helper.make_node("Cast", ["x"], ["c"], to=7), helper.make_node("Reshape", ["x", "c"], ["y"], name="it")],
    "an attribute out of range": [helper.make_node("Softmax", ["x"], ["y"], name="it", axis=7)],
    "training": [helper.make_node("BatchNormalization", ["x", "w", "w", "w", "w"], ["y"], name="it", training_mode=1)],
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_run_names_its_node(name: str) -> None:
    assert "node 'it' (" in refusal(make(BROKEN[name], {"w": np.ones(3, np.float32)}, [1, 3]))
