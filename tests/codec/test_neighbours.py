"""Neighbours against what places in the grid say, one by one."""

from __future__ import annotations

from itertools import accumulate
from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compresskit.codec.neighbours import FRAMES, NONE, PLANES, SPATIAL, Places, places

grids = st.lists(st.lists(st.integers(1, 4), min_size=3, max_size=4).map(tuple), min_size=1, max_size=4)


def slow(grids: list[tuple[int, ...]], begin: int, end: int) -> list[tuple[int, set[int]]]:
    """Of each patch its turn, and the numbers in the chunk of its neighbours."""
    where = [(item, np.array(place)) for item, grid in enumerate(grids) for place in np.ndindex(*grid)][begin:end]
    return [
        (
            sum(int(coordinate) % 2 for coordinate in place) if sum(other == item for other, _ in where) > 1 else 0,
            {number for number, (other, there) in enumerate(where) if other == item and np.abs(there - place).sum() == 1},
        )
        for item, place in where
    ]


def found(lying: Places) -> list[tuple[int, set[int]]]:
    return [(int(turn), set(near.reshape(-1).tolist()) - {NONE}) for turn, near in zip(lying.turn, lying.near, strict=True)]


@given(grids, st.data())
def test_neighbours_are_one_step_apart_in_one_item(grids: list[tuple[int, ...]], data: st.DataObject) -> None:
    firsts = [0, *accumulate(map(prod, grids))]
    begin = data.draw(st.integers(0, firsts[-1] - 1))
    end = data.draw(st.integers(begin + 1, firsts[-1]))
    lying = places(firsts, grids, begin, end)
    assert found(lying) == slow(grids, begin, end)
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=end - begin, max_size=end - begin)))
    numbers = dict(zip(np.flatnonzero(kept).tolist(), range(end - begin), strict=False))
    expected = [(turn, {numbers[other] for other in near if other in numbers}) for (turn, near), keep in zip(found(lying), kept, strict=True) if keep]
    assert found(lying.only(kept)) == expected


@given(grids)
def test_every_patch_has_one_turn_and_what_is_known_came_before(grids: list[tuple[int, ...]]) -> None:
    firsts = [0, *accumulate(map(prod, grids))]
    lying = places(firsts, grids, 0, firsts[-1])
    coded: set[int] = {NONE}
    for turn in lying.turns():
        assert set(turn.earlier.reshape(-1).tolist()) <= coded
        assert turn.known.tolist() == [len(set(near.reshape(-1).tolist()) - {NONE}) for near in turn.earlier]
        assert not coded & set(turn.rows.tolist())
        coded |= set(turn.rows.tolist())
    assert coded == {NONE, *range(firsts[-1])}


def test_axes_without_neighbours_are_left_out() -> None:
    assert places([0, 12], [(1, 1, 3, 4)], 0, 12).kinds == (2, 3)
    assert places([0, 1, 2], [(1, 1, 1), (1, 1, 1)], 0, 2).kinds == ()
    assert places([0, 12], [(1, 1, 3, 4)], 0, 4).kinds == (3,)
    assert places([0, 48], [(2, 2, 3, 4)], 0, 48).kinds == (PLANES, FRAMES, SPATIAL, SPATIAL + 1)
    assert places([0, 48], [(2, 2, 3, 4)], 6, 24).kinds == (FRAMES, SPATIAL, SPATIAL + 1)
    line = places([0, 48], [(2, 2, 3, 4)], 0, 48).only(np.isin(np.arange(48), [0, 24, 25]))
    assert (line.kinds, line.axes) == ((PLANES, SPATIAL + 1), 2)
