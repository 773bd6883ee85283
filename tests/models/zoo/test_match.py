"""A state_dict finds its architecture, and a wrong one is told why."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.errors import InputError, UsageError
from compresskit.models.zoo import ARCHITECTURES, build, build_for_state, fit, suggest

SIZED = {"mlp", "vit"}


def shapes(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def options_of(name: str, classes: int, in_channels: int, width: float, size: int) -> dict[str, float]:
    """What the builder of `name` takes of these."""
    options = {"classes": classes, "width": width}
    if name == "bert":
        return options | {"tokens": size, "vocabulary": 100 * in_channels}
    return options | {"in_channels": in_channels} | ({"size": size} if name in SIZED else {})


@settings(max_examples=25)
@given(
    name=st.sampled_from(list(ARCHITECTURES)),
    classes=st.integers(1, 30),
    in_channels=st.sampled_from([1, 3]),
    eighths=st.integers(1, 12),
    quarter=st.integers(1, 10),
)
def test_options_are_read_back_from_the_shapes(name: str, classes: int, in_channels: int, eighths: int, quarter: int) -> None:
    options = options_of(name, classes, in_channels, eighths / 8, 4 * quarter)
    with torch.device("meta"):
        state = shapes(build(name, **options).state_dict())
    found = fit(ARCHITECTURES[name], state)
    assert found.exact
    assert found.options["classes"] == classes
    if name != "mlp":  # whose input is flat: 3 x 16 x 16 and 1 x 16 x 48 look alike
        size = options.get("size", 32)
        columns = len(ARCHITECTURES[name].input_shape) == 1
        assert found.input_shape == ((4 * quarter,) if name == "bert" else (in_channels,) if columns else (in_channels, size, size))


@pytest.mark.parametrize(("name", "options"), [(name, {}) for name in ARCHITECTURES] + [("resnet20", {"shortcut": "B"})])
def test_the_defaults_are_suggested_first(name: str, options: dict[str, str]) -> None:
    with torch.device("meta"):
        state = shapes(build(name, **options).state_dict())
    assert suggest(state)[0] == name


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_loaded_network_computes_the_same(shortcut: str) -> None:
    original = build("resnet20", classes=4, width=0.5, shortcut=shortcut).eval()
    loaded = build_for_state("resnet20", original.state_dict()).eval()
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded(x), original(x))


def test_counters_of_batch_norm_may_be_absent() -> None:
    state = build("resnet8").state_dict()
    for key in [key for key in state if key.endswith("num_batches_tracked")]:
        del state[key]
    assert torch.equal(build_for_state("resnet8", state).state_dict()["conv1.weight"], state["conv1.weight"])


def test_a_wrong_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(InputError, match=r"'resnet20': 60 unexpected \(layer1\.3\.conv1\.weight \[16, 16, 3, 3\], .*; try --arch resnet32$"):
        build_for_state("resnet20", _without_counters("resnet32"))


def test_each_kind_of_difference_is_named() -> None:
    state = build("resnet8").state_dict()
    state["extra"] = state.pop("linear.bias")
    state["layer2.0.conv1.weight"] = torch.zeros(5, 16, 3, 3)
    with pytest.raises(InputError) as caught:
        build_for_state("resnet8", state)
    message = str(caught.value)
    assert "1 missing (linear.bias [10])" in message
    assert "1 unexpected (extra [10])" in message
    assert "1 of another shape (layer2.0.conv1.weight [5, 16, 3, 3] for [32, 16, 3, 3])" in message
    assert message.endswith("try --arch resnet8"), "the nearest is worth a mention"
    assert "\n" not in message


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"weight": torch.zeros(3)},
        {"conv1.weight": torch.zeros(()), "linear.weight": torch.zeros(0)},
        {"fc1.weight": torch.zeros(0, 0), "pos_embed": torch.zeros(1, 1)},
    ],
)
def test_foreign_weights_point_to_factories(state: dict[str, torch.Tensor]) -> None:
    assert suggest(shapes(state)) == []
    with pytest.raises(InputError, match=r"no zoo architecture comes near: give --arch pkg\.mod:factory"):
        build_for_state("resnet20", state)


def test_an_unknown_architecture_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown architecture"):
        build_for_state("alexnet", {})


def _without_counters(name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in build(name).state_dict().items() if not key.endswith("num_batches_tracked")}
