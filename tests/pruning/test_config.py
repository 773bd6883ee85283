"""What may be asked of `prune`: every way to say it arrives, everything else is refused in one line."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.errors import UsageError
from compresskit.pruning.config import BLOCK_NAMES, BlockName, Method, PruneConfig, Quantity, Target, parse_blocks, parse_pattern, parse_target
from compresskit.pruning.request import PruneRequest

QUANTITIES: tuple[Quantity, ...] = ("flops", "params", "size")
quantities = st.sampled_from(QUANTITIES)
fractions = st.floats(min_value=0, max_value=1, exclude_min=True, exclude_max=True)
HALF = Target("flops", 0.5)


@given(quantities, fractions)
def test_a_fraction_is_kept_to_the_bit(quantity: Quantity, fraction: float) -> None:
    target = parse_target(quantity, repr(fraction))
    assert (target, target.relative) == (Target(quantity, fraction), True)


@given(quantities, st.integers(1, 9_999))
def test_a_percentage_is_a_fraction(quantity: Quantity, hundredths: int) -> None:
    target = parse_target(quantity, f"{hundredths / 100}%")
    assert target.relative
    assert math.isclose(target.value, hundredths / 10_000)


@given(quantities, st.integers(1, 10**6), st.sampled_from([("K", 10**3), ("k", 10**3), ("M", 10**6), ("G", 10**9), ("g", 10**9)]), st.booleans())
def test_a_count_may_have_a_unit(quantity: Quantity, number: int, unit: tuple[str, int], spaced: bool) -> None:
    letter, factor = unit
    target = parse_target(quantity, f"{number / 100}{' ' * spaced}{letter}")
    assert not target.relative
    assert math.isclose(target.value, number / 100 * factor)


@given(quantities, st.integers(2, 10**12))
def test_a_plain_count_needs_none(quantity: Quantity, count: int) -> None:
    assert parse_target(quantity, str(count)) == Target(quantity, count)


@given(st.integers(1, 10**6), st.sampled_from(["KB", "MB", "GB", "kB", "mb"]))
def test_bytes_go_with_size_alone(number: int, unit: str) -> None:
    text = f"{number}{unit}"
    assert parse_target("size", text) == parse_target("size", text[:-1])
    for quantity in ("flops", "params"):
        with pytest.raises(UsageError, match=r"bytes go with --size"):
            parse_target(quantity, text)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["0", "0.0", "0%", "1", "1.0", "1.5", "100%", "150%", "abc", "", " ", "-1", "-0.5", "nan", "inf", "1e999"])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_what_is_no_target_is_refused(quantity: Quantity, text: str) -> None:
    with pytest.raises(UsageError, match=rf"^--{quantity} takes a kept fraction between 0 and 1, or a count such as [^\n]*, not '{text}'"):
        parse_target(quantity, text)


@given(st.floats(1e-3, 1e6), st.sampled_from([("us", 1e-3), ("ms", 1.0), ("s", 1e3)]), st.booleans())
def test_a_time_has_a_unit(number: float, unit: tuple[str, float], spaced: bool) -> None:
    letters, factor = unit
    target = parse_target("latency", f"{number!r}{' ' * spaced}{letters}")
    assert not target.relative
    assert math.isclose(target.value, number * factor)


@given(fractions)
def test_a_fraction_of_a_latency_needs_none(fraction: float) -> None:
    assert parse_target("latency", repr(fraction)) == Target("latency", fraction)
    assert parse_target("latency", repr(fraction)).relative


@pytest.mark.parametrize("text", ["0", "0ms", "1", "5", "100%", "1.5", "-1ms", "5m", "5MB", "ms", "", "nan", "1e999ms", "5 m s"])
def test_what_is_no_latency_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=rf"^--latency takes a kept fraction between 0 and 1, or a time such as 5ms, not '{text}'"):
        parse_target("latency", text)


@pytest.mark.parametrize("text", ["0.5.5", "30T", "0.5 0.6", "0,5", "0.0001K", "1e-400", "2.5", "1_000", "0x10", "5%%", "5M%", "٣M"])
def test_what_only_looks_like_a_target_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--flops takes"):
        parse_target("flops", text)


@given(fractions, st.integers(1, 10**12))
def test_a_fraction_limits_to_that_part(fraction: float, whole: int) -> None:
    assert Target("flops", fraction).limit(whole) == fraction * whole


@given(st.integers(1, 10**9), st.integers(0, 10**9))
def test_a_count_at_or_above_the_model_is_refused(whole: int, more: int) -> None:
    with pytest.raises(UsageError, match=r"no less than the model has"):
        Target("params", float(whole + more)).limit(whole)


@given(st.data())
def test_a_pattern_says_how_many_of_how_many_stay(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 9999))
    kept = data.draw(st.integers(1, size - 1))
    assert parse_pattern(f"{kept}:{size}") == (kept, size)
    PruneConfig(sparsity=1 - kept / size, pattern=f"{kept}:{size}")
    with pytest.raises(UsageError, match=r"takes unstructured or N:M"):
        parse_pattern(f"{size}:{kept}")


@pytest.mark.parametrize("text", ["2:2", "0:4", "2:", ":4", "2/4", "2:4:8", "-1:4", "two", "", "10000:20000"])
def test_other_patterns_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"takes unstructured or N:M"):
        PruneConfig(sparsity=0.5, pattern=text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": None}, "say what to reach"),
        ({"sparsity": 0.5}, "--flops and a sparsity (--sparsity, --pattern N:M) contradict each other: give one"),
        ({"target": None, "sparsity": 0.0}, "--sparsity takes a removed fraction between 0 and 1, not 0"),
        ({"target": None, "sparsity": 1.0}, "--sparsity takes a removed fraction between 0 and 1, not 1"),
        ({"target": None, "sparsity": 0.9, "pattern": "2:4"}, "--pattern 2:4 removes 0.5 of the weights, not 0.9: give --sparsity 0.5"),
        ({"floor": 1.0}, "--floor takes a kept fraction from 0 to below 1, not 1"),
        ({"floor": -0.1}, "--floor takes"),
        ({"floor": math.nan}, "--floor takes"),
        ({"steps": 0}, "--steps takes 1 or more, not 0"),
        ({"round_to": -8}, "--round-to takes"),
        ({"epochs": -1.0}, "--epochs takes 0 or more, not -1"),
        ({"epochs": math.inf}, "--epochs takes"),
        ({"batch_size": 0}, "--batch-size takes 1 or more, not 0"),
        ({"steps": 2, "method": "l1l2"}, "--method l1l2 cuts once"),
        ({"init": True}, "--init prunes before training: give --method, one of 3sp, prospr"),
        ({"init": True, "method": "l1l2"}, "--init prunes before training: give --method, one of 3sp, prospr"),
        ({"init": True, "method": "3sp", "max_drop": 0.1}, "--max-drop compares with the model before, which --init finds untrained"),
        ({"method": "3sp", "reinit": True}, "--rescale and --reinit are for the channels that --init leaves"),
        ({"method": "3sp", "init": True, "rescale": True, "target": None, "sparsity": 0.5}, "--rescale and --reinit are for the channels"),
        ({"compute_aware": True}, "--compute-aware weighs saliencies of channels"),
        ({"smoothing": -1.0}, "--smoothing takes 0 or more, not -1"),
        ({"method": "snip", "target": None, "sparsity": 0.5, "pattern": "2:4"}, "--method snip says nothing about --pattern 2:4"),
        ({"pattern": "unstructured"}, "--pattern sets weights to zero: it goes with --sparsity, unstructured with --params too"),
        ({"method": "3sp", "inner_steps": 1}, "--inner-steps and --first-order are settings of prospr: give --method prospr"),
        ({"method": "3sp", "first_order": True}, "--inner-steps and --first-order"),
        ({"method": "prospr", "inner_steps": -1}, "--inner-steps takes 0 or more, not -1"),
        ({"weight_decay": math.inf}, "--weight-decay takes"),
        ({"blocks": ("channels", "channels")}, "--blocks takes some of channels, heads, head-width, ffn, lowrank"),
        ({"blocks": ()}, "--blocks takes some of channels, heads, head-width, ffn, lowrank with commas between them, each once, not ''"),
        ({"blocks": ("heads",), "target": None, "sparsity": 0.5}, "--blocks says which widths and ranks fall"),
        ({"blocks": ("lowrank",), "method": "3sp"}, "--method 3sp says nothing about ranks"),
        ({"blocks": ("channels", "lowrank"), "steps": 2}, "--blocks lowrank factorizes once"),
        ({"distill": 1.5}, "--distill takes a weight from 0 to 1, not 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        PruneConfig(**{"target": HALF, **settings})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "l1l2"}, "--method l1l2 learns from data: give --data, or --method classic"),
        ({"max_drop": 0.1}, "--max-drop needs --data to measure accuracy on"),
    ],
)
def test_what_needs_data_is_refused_before_anything_is_read(settings: dict[str, Any], message: str) -> None:
    config = PruneConfig(target=HALF, **settings)
    PruneRequest("absent.onnx", config, data="absent.npz")
    with pytest.raises(UsageError) as caught:
        PruneRequest("absent.onnx", config)
    assert str(caught.value) == message


@given(st.lists(st.sampled_from(BLOCK_NAMES), min_size=1, unique=True))
def test_blocks_are_read_in_any_order(names: list[BlockName]) -> None:
    assert parse_blocks(", ".join(names)) == tuple(names)


@pytest.mark.parametrize("text", ["", "channel", "channels,", "channels,channels", "low-rank", "heads;ffn"])
def test_what_is_no_block_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--blocks takes some of channels, heads, head-width, ffn, lowrank with"):
        parse_blocks(text)


@pytest.mark.parametrize(("method", "learns"), [("auto", False), ("classic", False), ("l1l2", True)])
def test_what_measured_better_is_the_default(method: Method, learns: bool) -> None:
    assert PruneConfig(target=HALF, method=method).learns == learns


@pytest.mark.parametrize(
    ("settings", "data", "criterion"),
    [
        ({}, True, "l2"),
        ({"epochs": 2.0}, True, "reconstruction"),
        ({}, False, "l2"),
        ({"criterion": "l1"}, True, "l1"),
        ({"method": "snip"}, True, "l2"),
        ({"target": None, "sparsity": 0.5}, True, "l2"),
    ],
)
def test_data_choose_the_criterion(settings: dict[str, Any], data: bool, criterion: str) -> None:
    assert PruneConfig(**{"target": HALF, **settings}).settled(data=data).criterion == criterion
