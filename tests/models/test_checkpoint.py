"""A checkpoint is the model, to the bit; a damaged one is refused; a forged one cannot run anything."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import fx, nn
from torch.nn import functional as F

from compresskit.errors import InputError
from compresskit.models.checkpoint import Container, is_checkpoint, load_checkpoint, save_checkpoint
from compresskit.models.graph import ModelGraph, Normalization, TensorSpec
from compresskit.models.graph_json import DTYPES, decode_value, encode_value
from compresskit.models.lift import graph_from_module
from compresskit.models.safe_ops import function_of, name_of

CONTAINERS: tuple[Container, ...] = ("pt", "safetensors")
IMAGE = TensorSpec("image", (None, 3, 8, 8))
TOKENS = TensorSpec("tokens", (None, 6), torch.int64)


class Branches(nn.Module):
    """Residual, concat, grouped, flatten into linear; two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.grouped = nn.Conv2d(8, 8, 3, padding="same", groups=4, bias=False)
        self.up = nn.ConvTranspose2d(8, 4, 2, 2, output_padding=1)
        self.head = nn.Linear(12 * 16, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(x)
        x = x + self.grouped(x)
        mixed = torch.cat([x, F.interpolate(self.up(x), size=(8, 8), mode="nearest")], 1)
        return self.head(F.max_pool2d(mixed, 2).flatten(1)), x.clamp(0, float("inf")).to(torch.float64)


class Sequence(nn.Module):
    """Attention, a recurrent call, a buffer and one matrix under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8, padding_idx=0)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("position", torch.randn(6, 8), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.layer(self.embed(tokens) + self.position)
        return self.head(self.lstm(x)[0][:, ::2])


def lifted(module: nn.Module, spec: TensorSpec, seed: int = 0) -> ModelGraph:
    torch.manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return graph_from_module(module.eval(), (spec,), source="made here")


@pytest.fixture(scope="module")
def tiny() -> ModelGraph:
    graph = lifted(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()), IMAGE)
    return ModelGraph(graph.module, graph.inputs, graph.outputs, True, "tiny", "pkg:net", Normalization((0.5,), (0.1, 0.2)), ("cat", "a dog"))


NETS: tuple[Callable[[], ModelGraph], ...] = (
    lambda: lifted(Branches(), IMAGE),
    lambda: lifted(Sequence(), TOKENS),
    lambda: lifted(nn.Sequential(nn.Conv1d(4, 6, 3), nn.GroupNorm(2, 6), nn.PReLU(6), nn.Dropout(0.3)), TensorSpec("x", (None, 4, 9))),
    lambda: lifted(
        nn.Sequential(nn.Linear(7, 4).double(), nn.LayerNorm(4, bias=False).double(), nn.GELU("tanh")), TensorSpec("x", (3, 7), torch.float64)
    ),
)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("make", NETS)
def test_round_trip_is_equal_to_the_bit(make: Callable[[], ModelGraph], container: Container) -> None:
    graph = make()
    data = save_checkpoint(graph, container)
    again = load_checkpoint(data)
    assert is_checkpoint(data)
    assert save_checkpoint(again, container) == data
    assert (again.inputs, again.outputs, again.free_batch) == (graph.inputs, graph.outputs, graph.free_batch)
    example = graph.example(3, seed=1)
    ours, theirs = again.module(*example), graph.module(*example)
    ours, theirs = (result if isinstance(result, tuple) else (result,) for result in (ours, theirs))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def of_one_tensor(tensor: torch.Tensor) -> ModelGraph:
    """A graph that gives its input and a tensor of its own."""
    nodes = fx.Graph()
    nodes.output((nodes.placeholder("x"), nodes.create_node("get_attr", "kept")))
    scalar = TensorSpec("x", (None, 1))
    return ModelGraph(fx.GraphModule({"kept": tensor}, nodes), (scalar,), (scalar, TensorSpec("kept", tuple(tensor.shape), tensor.dtype)))


def bits(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().clone(memory_format=torch.contiguous_format).untyped_storage())


@given(
    container=st.sampled_from(CONTAINERS),
    array=hnp.arrays(st.one_of(hnp.integer_dtypes(endianness="="), hnp.floating_dtypes(endianness="=")), hnp.array_shapes(min_dims=0, min_side=0)),
    kind=st.sampled_from(sorted(DTYPES)),
    trained=st.booleans(),
)
@settings(max_examples=1000)
def test_every_tensor_comes_back(container: Container, array: np.ndarray, kind: str, trained: bool) -> None:
    with np.errstate(all="ignore"):
        tensor = torch.as_tensor(array.astype(np.float64)).to(DTYPES[kind])
    kept = nn.Parameter(tensor) if trained and tensor.is_floating_point() else tensor
    again = load_checkpoint(save_checkpoint(of_one_tensor(kept), container)).module.kept
    assert (again.dtype, again.shape, type(again)) == (kept.dtype, kept.shape, type(kept))
    assert bits(again) == bits(kept)


@given(
    width=st.integers(1, 6),
    kernel=st.sampled_from([1, 3]),
    stride=st.integers(1, 2),
    bias=st.booleans(),
    seed=st.integers(0, 99),
    cut=st.integers(0, 5),
)
@settings(max_examples=12)
def test_round_trip_after_a_cut(width: int, kernel: int, stride: int, bias: bool, seed: int, cut: int) -> None:
    net = nn.Sequential(nn.Conv2d(3, width + cut, kernel, stride, bias=bias), nn.BatchNorm2d(width + cut), nn.Conv2d(width + cut, 4, 1))
    graph = lifted(net, IMAGE, seed)
    first, norm, last = (graph.module.get_submodule(name) for name in "012")
    first.weight, first.out_channels = nn.Parameter(first.weight[:width]), width
    if bias:
        first.bias = nn.Parameter(first.bias[:width])
    norm.weight, norm.bias, norm.num_features = nn.Parameter(norm.weight[:width]), nn.Parameter(norm.bias[:width]), width
    norm.running_mean, norm.running_var = norm.running_mean[:width], norm.running_var[:width]
    last.weight, last.in_channels = nn.Parameter(last.weight[:, :width]), width
    data = save_checkpoint(graph)
    (x,) = graph.example(2)
    assert torch.equal(load_checkpoint(data).module(x), graph.module(x))
    assert save_checkpoint(load_checkpoint(data)) == data


def test_what_is_known_of_the_model_is_kept(tiny: ModelGraph) -> None:
    again = load_checkpoint(save_checkpoint(tiny))
    assert (again.source, again.arch, again.normalization, again.classes) == (tiny.source, tiny.arch, tiny.normalization, tiny.classes)


def test_one_matrix_under_two_names_stays_one() -> None:
    again = load_checkpoint(save_checkpoint(lifted(Sequence(), TOKENS))).module
    (embedding,) = (leaf for leaf in again.modules() if isinstance(leaf, nn.Embedding))
    assert any(leaf.weight is embedding.weight for leaf in again.modules() if isinstance(leaf, nn.Linear))


def test_the_file_is_an_ordinary_weights_only_file(tiny: ModelGraph) -> None:
    payload = torch.load(io.BytesIO(save_checkpoint(tiny)), weights_only=True)
    assert payload["format"] == "compresskit"
    assert torch.equal(payload["state"]["0.weight"], tiny.module.get_parameter("0.weight"))


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_flipped_byte_and_every_lost_tail_is_noticed(tiny: ModelGraph, container: Container) -> None:
    data = save_checkpoint(tiny, container)
    survivors = [at for at in range(len(data)) if _loads(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])]
    survivors += [end for end in range(len(data)) if _loads(data[:end])]
    assert survivors == []
    assert not _loads(data + b"\0")


def test_what_is_sealed_is_still_checked(tiny: ModelGraph, maker: Callable[[str], ModuleType]) -> None:
    script = maker("make_checkpoint")
    data, plain = (save_checkpoint(tiny, container) for container in CONTAINERS)
    assert load_checkpoint(script.forge_payload(data, lambda payload: None)).source == tiny.source
    repeated = torch.zeros(1).expand(1 << 26, 1)
    forged = {
        "is of version 2, this compresskit reads version 1": script.forge_payload(data, lambda payload: payload.update(version=2)),
        "format is 'other', expected 'compresskit'": script.forge_payload(data, lambda payload: payload.update(format="other")),
        "far larger than": script.forge_payload(data, lambda payload: payload["state"].update(more=repeated)),
        "it names classes": script.forge_payload(data, lambda payload: payload.update(more=Fraction(1, 2))),
        "none that compresskit writes ('version')": script.forge_payload(data, lambda payload: payload.pop("version")),
        "the safetensors container is damaged": script.forge_bytes(plain, b'"F32"', b'"F99"'),
        "is of version 2, this": script.forge_bytes(plain, b'\\"version\\": 1', b'\\"version\\": 2'),
    }
    for said, bad in forged.items():
        assert is_checkpoint(bad)
        with pytest.raises(InputError) as caught:
            load_checkpoint(bad)
        assert said in str(caught.value)


def _with_number(graph: ModelGraph) -> ModelGraph:
    graph.module.number = 3
    graph.module.graph.create_node("get_attr", "number")
    return graph


def _with_method(graph: ModelGraph) -> ModelGraph:
    graph.module.graph.create_node("call_method", "relu", (next(iter(graph.module.graph.nodes)),))
    return graph


def _with_argument(graph: ModelGraph) -> ModelGraph:
    node = next(node for node in graph.module.graph.nodes if node.op == "call_function")
    node.kwargs = {"how": torch.float8_e4m3fn}
    return graph


def _with_leaf(graph: ModelGraph) -> ModelGraph:
    graph.module.set_submodule("0", nn.Bilinear(1, 1, 1))
    return graph


def _with_weight(graph: ModelGraph) -> ModelGraph:
    leaf = graph.module.get_submodule("0")
    leaf.weight = nn.Parameter(leaf.weight.detach().to(torch.complex64))
    return graph


def _with_function(graph: ModelGraph) -> ModelGraph:
    next(node for node in graph.module.graph.nodes if node.op == "call_function").target = torch.relu
    return graph


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_with_number, "holds number, a int, which"),
        (_with_method, "has a call_method of relu, which"),
        (_with_argument, "passes torch.float8_e4m3fn to an operator, which"),
        (_with_leaf, "layer 0 is a Bilinear, which"),
        (_with_weight, "tensor 0.weight is torch.strided torch.complex64, which"),
        (_with_function, "calls <built-in method relu of type object"),
    ],
)
def test_what_has_no_form_is_not_saved(tiny: ModelGraph, change: Callable[[ModelGraph], ModelGraph], said: str) -> None:
    with pytest.raises(InputError) as caught:
        save_checkpoint(change(load_checkpoint(save_checkpoint(tiny))))
    assert said in str(caught.value)
    assert str(caught.value).endswith("cannot be stored in a checkpoint: write .onnx instead")


def test_settings_that_contradict_the_weights_are_not_saved(tiny: ModelGraph) -> None:
    graph = load_checkpoint(save_checkpoint(tiny))
    graph.module.get_submodule("0").out_channels = 3
    with pytest.raises(ValueError, match="layer 0: its settings"):
        save_checkpoint(graph)


def test_forged_graphs_are_refused_for_what_is_wrong_with_them(tiny: ModelGraph, maker: Callable[[str], ModuleType]) -> None:
    script = maker("make_checkpoint")
    data = save_checkpoint(tiny)
    assert load_checkpoint(script.forge(data, lambda description: description.update(source="edited"))).source == "edited"
    for name, (edit, said) in script.FORGERIES.items():
        with pytest.raises(InputError) as caught:
            load_checkpoint(script.forge(data, edit))
        assert said in str(caught.value), name
        assert "\n" not in str(caught.value), name


@pytest.mark.parametrize(
    "name",
    [
        "aten.from_file.default",
        "aten.save.default",
        "aten.warn.default",
        "aten.set_.source_Tensor",
        "aten._resize_output_.default",
        "aten._cdist_forward.default",  # private, and harmless as far as its schema tells
        "aten.relu_.default",
        "aten.relu.out",
        "aten.is_pinned.storage",
        "aten.relu.nothing",
        "aten.nothing.default",
        "aten.relu",
        "aten.relu.default.default",
        "aten.relu.overloads",
        "aten.__class__.__init__",
        "prims.add.default",
        "operator.attrgetter",
        "operator.pow",
        "math.factorial",
        "os.system",
        "",
    ],
)
def test_operators_with_effects_are_not_found(name: str) -> None:
    with pytest.raises(InputError, match=r"no operator that a checkpoint may call"):
        function_of(name)


@pytest.mark.parametrize(
    "function", [torch.ops.aten.relu_.default, torch.ops.prims.add.default, torch.ops.aten.relu, torch.relu, len, "aten.relu.default"]
)
def test_what_may_not_be_called_has_no_name(function: Any) -> None:
    with pytest.raises(InputError, match="cannot be stored in a checkpoint"):
        name_of(function)


@pytest.mark.parametrize(
    "name",
    [
        "aten.relu.default",
        "aten.sym_size.int",
        "aten.scaled_dot_product_attention.default",
        "aten._softmax.default",  # private, but what exports contain
        "aten._assert_scalar.default",  # returns nothing, and takes a message
        "aten.gelu.default",  # takes the name of a mode
        "aten.einsum.default",
        "aten.pad.default",
        "aten.split.Tensor",  # returns a list
        "aten.dropout.default",
        "aten.rand.generator",
        "operator.getitem",
        "math.trunc",
        "torch.sym_max",
    ],
)
def test_operator_names_round_trip(name: str) -> None:
    assert name_of(function_of(name)) == name


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from([torch.float32, torch.strided, torch.device("cpu")]),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.builds(slice, inner, inner, inner),
    max_leaves=8,
)


@given(VALUES)
def test_values_round_trip_through_json(value: Any) -> None:
    assert decode_value(json.loads(json.dumps(encode_value(value), allow_nan=False)), {}) == value


def _loads(data: bytes) -> bool:
    try:
        load_checkpoint(data)
    except InputError:
        return False
    return True
