"""Surfaces are monotone and meet their points; tables say what they lack, and survive their files."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compresskit.errors import InputError
from compresskit.models.latency_operators import Operator, Use, fingerprint
from compresskit.models.latency_surface import Stack, axis, monotone
from compresskit.models.latency_table import Entry, Table, Whole

Grid = tuple[list[int], list[int], np.ndarray]


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    sides = [sorted(draw(st.sets(st.integers(1, 200), min_size=1, max_size=6))) for _ in range(2)]
    ms = draw(hnp.arrays(np.float64, tuple(map(len, sides)), elements=st.floats(0, 10)))
    return sides[0], sides[1], ms


@given(widths=st.sets(st.integers(1, 5000), min_size=1, max_size=4))
def test_an_axis_holds_every_width_and_few_more(widths: set[int]) -> None:
    made = axis(widths)
    assert {1, *widths} <= set(made)
    assert made == tuple(sorted(set(made)))
    assert made[-1] == max(widths)
    assert len(made) <= 9 + len(widths)
    assert all(width % 8 == 0 for width in set(made) - widths - {1})
    assert set(range(8, min(64, made[-1]) if made[-1] <= 64 else 0, 8)) <= set(made)


@given(grid=grids())
def test_a_monotone_surface_never_falls_and_is_as_near_as_any(grid: Grid) -> None:
    ms = grid[2]
    made = monotone(ms)
    assert all((np.diff(made, axis=side) >= 0).all() for side in (0, 1))
    drops = [np.max(ms[: i + 1, : j + 1]) - ms[i, j] for i in range(ms.shape[0]) for j in range(ms.shape[1])]
    assert np.abs(made - ms).max() == pytest.approx(max(drops) / 2)  # half of the worst contradiction: none can do with less
    np.testing.assert_allclose(monotone(made), made)


@given(made=st.lists(grids(), min_size=1, max_size=3), shares=st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_a_stack_meets_its_points_and_is_bilinear_between(made: list[Grid], shares: list[float]) -> None:
    stack = Stack.of(made)
    for corner in (0, -1):
        wanted = [monotone(ms)[corner, corner] for _, _, ms in made]
        at = [np.array([float(grid[side][corner]) for grid in made]) for side in (0, 1)]
        np.testing.assert_allclose(stack(*at), wanted, atol=1e-9)
    at = [np.array([1 + share * 199 for share in shares[side::2][: len(made)]]) for side in (0, 1)]
    np.testing.assert_allclose(stack(*at), [_slow(grid, float(one), float(two)) for grid, one, two in zip(made, *at, strict=True)], atol=1e-6)


def _slow(grid: Grid, one: float, two: float) -> float:
    """Along the inputs for each output, then along the outputs."""
    inputs, outputs, ms = grid
    column = [_line(inputs, list(values), one) for values in monotone(ms).T]
    return _line(outputs, column, two)


def _line(at: list[int], values: list[float], x: float) -> float:
    if len(at) == 1:
        return values[0]
    cell = next((index for index in range(len(at) - 2) if x < at[index + 1]), len(at) - 2)
    return values[cell] + (values[cell + 1] - values[cell]) * (x - at[cell]) / (at[cell + 1] - at[cell])


@given(made=grids(), one=st.floats(1, 200), two=st.floats(1, 200))
def test_the_gradient_is_the_slope_of_the_cell(made: Grid, one: float, two: float) -> None:
    inputs, outputs = (np.array([made[side][0] - 0.5 + 0 * x]) for side, x in enumerate((one, two)))  # off the knots
    stack = Stack.of([made])
    widths = [torch.tensor(side, requires_grad=True) for side in (inputs, outputs)]
    stack.mapped(torch.from_numpy)(*widths).sum().backward()
    for side, step in enumerate(np.eye(2) * 0.25):
        slope = (stack(inputs + step[0], outputs + step[1]) - stack(inputs - step[0], outputs - step[1])) / 0.5
        assert float(widths[side].grad) == pytest.approx(float(slope[0]), abs=1e-6)


OPERATOR = Operator("linear", (1,))


def table(*entries: Entry, models: dict[str, Whole] | None = None) -> Table:
    return Table("made up", "1.0", 1, 1, entries, models or {})


@given(made=grids(), model=st.floats(1e-3, 1e3))
def test_a_table_survives_its_file(made: Grid, model: float) -> None:
    entry = Entry(OPERATOR, tuple(made[0]), tuple(made[1]), tuple(map(tuple, made[2].tolist())))
    one = table(entry, models={"a": Whole(model, 1.0)})
    assert Table.from_json(one.to_json()) == one


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"operator": Operator("magic", (1,))}, "unknown kind 'magic'"),
        ({"inputs": ()}, "do not ascend"),
        ({"inputs": (0, 2)}, "do not ascend"),
        ({"inputs": (2, 1)}, "do not ascend"),
        ({"outputs": (1, 2**30)}, "do not ascend"),
        ({"inputs": tuple(range(1, 258))}, "257 widths"),
        ({"outputs": (1, 2, 3)}, "2 x 3"),
        ({"ms": ((1.0, 1.0),)}, "2 x 2"),
        ({"ms": ((1.0, 1.0), (1.0, -1.0))}, "not between 0"),
        ({"ms": ((1.0, 1.0), (1.0, float("nan")))}, "not between 0"),
    ],
)
def test_what_contradicts_itself_is_refused(change: dict[str, object], said: str) -> None:
    entry = Entry(OPERATOR, (1, 2), (1, 2), ((1.0, 1.0), (1.0, 1.0)))
    with pytest.raises(InputError, match=said):
        dataclasses.replace(entry, **change)  # type: ignore[arg-type]


def test_a_table_of_nonsense_is_refused() -> None:
    entry = Entry(OPERATOR, (1,), (1,), ((1.0,),))
    with pytest.raises(InputError, match="occurs twice"):
        table(entry, entry)
    for threads, batch in ((1, 0), (-1, 1), (4097, 1), (1, 4097)):
        with pytest.raises(InputError, match=f"expected 0 to 4096 threads and a batch of 1 to 4096, found {threads} threads at batch {batch}"):
            Table("made up", "1.0", threads, batch, (), {})
    with pytest.raises(InputError, match="time of a model"):
        Whole(0.0, 1.0)


@pytest.mark.parametrize(("ms", "model"), [(0.0, None), (0.0, Whole(2.0, 1.0)), (1.0, Whole(1e-6, 1e3))])
def test_a_model_that_takes_no_time_is_refused(ms: float, model: Whole | None) -> None:
    use = Use(None, None, OPERATOR, 1, 1)  # type: ignore[arg-type]
    made = table(Entry(OPERATOR, (1,), (1,), ((ms,),)), models={fingerprint([use]): model} if model else {})
    with pytest.raises(InputError, match=r"the operators of this model take \S+ ms in all, where no clock tells less than 1e-06"):
        made.check([use])
    made.check([])


@pytest.mark.parametrize(("block", "widest", "multiple"), [(1, 64, 8), (8, 64, 8), (16, 64, 16), (32, 64, 32), (1, 128, 16), (1, 256, 32)])
def test_the_multiple_of_a_made_up_runtime(block: int, widest: int, multiple: int) -> None:
    """One that rounds channels up to `block`, and takes a twentieth of the time for nothing. Coarse steps show no small multiples."""
    outputs = axis({widest})
    ms = [-(-width // block) * block + widest / 20 for width in outputs]
    use = Use(None, None, OPERATOR, 8, widest)  # type: ignore[arg-type]
    assert table(Entry(OPERATOR, (8,), outputs, (tuple(ms),))).multiple([use]) == multiple
