from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from compresskit.codec import levels as rendering
from compresskit.codec import shelf
from compresskit.codec.base import Base
from compresskit.codec.chunks import pack_progressive
from compresskit.codec.coinpp import layout
from compresskit.codec.decoder import decode_items
from compresskit.codec.encoder import Work, encode_coin, encode_coinpp, encode_plain
from compresskit.codec.exact import IntegerNetwork, evaluate
from compresskit.codec.guard import Guard
from compresskit.codec.limits import DEFAULT_STREAM_LIMITS, StreamLimits
from compresskit.codec.modalities import read
from compresskit.codec.neighbours import places
from compresskit.codec.opened import Opened, open_stream
from compresskit.codec.patchcode import PatchCodes
from compresskit.codec.regions import parse_region, positions
from compresskit.codec.settings import Setting
from compresskit.codec.signal import Scale, Signal
from compresskit.codec.stream import Header, Item, Stream
from compresskit.codec.workspace import SHIFT_MACS, SINE_MACS, check_memory, check_work, work, working_bytes
from compresskit.errors import InputError

MakeBase = Callable[[int, int], Base]


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What networks take, counted where they are evaluated: work without shifts, and without patches of one colour."""
    counted: list[int] = []

    def counting(network: IntegerNetwork, coordinates: np.ndarray, shifts: np.ndarray | None, levels: int) -> np.ndarray:
        times = len(coordinates) * (1 if shifts is None else len(shifts))
        counted.append(times * (sum(layer.weight.size for layer in network.layers) + SINE_MACS * network.hidden * network.width))
        return evaluate(network, coordinates, shifts, levels)

    monkeypatch.setattr(rendering, "evaluate", counting)
    return counted


@pytest.fixture
def signal(smooth_samples: Callable[[tuple[int, ...]], np.ndarray], npy_bytes: Callable[[np.ndarray], bytes]) -> Signal:
    return read(npy_bytes(smooth_samples((3, 21, 30))[0]), "x.npy")


def coded(method: str, guard: Guard, signal: Signal, base: Base) -> Opened:
    if method == "coin":
        return open_stream(encode_coin(Work([signal], None, 2, guard), [4000.0], 8, 0).stream)
    return open_stream(encode_coinpp(Work([signal, signal], base, 2, guard), Setting((8,), 6)).stream, base)


@pytest.mark.parametrize("guard", [Guard(), Guard("max-error", 0.5)], ids=lambda guard: guard.kind)
@pytest.mark.parametrize("method", ["coin", "coin++"])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("region", ["", "x=3:14,y=2:12"])
def test_work_is_what_decoding_does(
    method: str, guard: Guard, scale: int, region: str, signal: Signal, make_base: MakeBase, evaluated: list[int]
) -> None:
    base = make_base(2, 1)
    opened = coded(method, guard, signal, base)
    wanted = positions(parse_region(region), opened.stream.items[0], scale) if region else None
    evaluated.clear()
    list(decode_items(opened, [0], scale, parts={0: wanted} if wanted else {}))
    assert sum(evaluated)
    found = work(opened, 0, scale, wanted)
    if opened.base is None:
        assert found == sum(evaluated)
        return
    constant, touched = opened.chunk(0).constant[: opened.first_patches[1]], opened.touched(0, wanted, scale)
    patches = constant if touched is None else constant[touched]
    assert np.count_nonzero(~patches) * (found // len(patches) - SHIFT_MACS * base.mapping.size) == sum(evaluated)


def test_stored_samples_take_no_work(signal: Signal) -> None:
    assert work(open_stream(encode_plain(Work([signal], None, 1)).stream), 0, 1) == 0


def test_a_large_volume_is_within_the_default() -> None:
    base = shelf.suited(sphere=False, axes=3, channels=1)
    if base is None or base.network.width < 64:
        pytest.skip("no base network of the usual size ships")
    item = Item("", "volume", "nii", "<i2", (1, 256, 256, 256, 1), Scale(0.0, 1.0, 4096), 4095.0)
    for patch in (4, 8, 24):
        stream = Stream(Header("coin++", base.digest[:4], (patch,), 8), (item,), ())
        check_work(Opened(stream, base, (layout(item.shape, 4096, (patch,)),)), [0], 1, {}, DEFAULT_STREAM_LIMITS)


def test_an_item_of_a_progressive_archive_takes_the_latents_of_all(make_base: MakeBase) -> None:
    base = make_base(2, 1)
    item = Item("", "array", "npy", "|u1", (1, 80, 80, 1), Scale(0.0, 1.0, 256), 255.0)
    for version, count in ((2, 200), (3, 200), (3, 1)):
        opened = Opened(
            Stream(Header("coin++", base.digest[:4], (8, 8), 6), (item,) * count, (), version=version), base, (layout(item.shape, 256, (8,)),) * count
        )
        if (version, count) == (3, 200):
            with pytest.raises(InputError, match="--max-memory"):
                check_memory(opened, [0], 1, StreamLimits(2**20))
        else:
            check_memory(opened, [0], 1, StreamLimits(2**20))


def test_the_latents_of_a_progressive_stream_take_no_more_than_is_estimated(make_base: MakeBase) -> None:
    base, side, random = make_base(2, 1), 400, np.random.default_rng(0)
    item = Item("", "array", "npy", "|u1", (1, side, side, 1), Scale(0.0, 1.0, 256), 255.0)
    lay = layout(item.shape, 256, (8,))
    codes = PatchCodes(np.zeros(2500, np.bool_), np.empty((0, 1), np.int64), random.integers(0, 64, (2500, base.latents)).astype(np.int32))
    chunk = pack_progressive(codes, base.tables[6], places((0, 2500), (lay.grid(base),), 0, 2500))
    opened = open_stream(Stream(Header("coin++", base.digest[:4], (8, 8), 6), (item,), (chunk,), version=3), base)
    needed = side * side + working_bytes(opened, 0, 1)
    tracemalloc.start()
    opened.chunk(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with pytest.raises(InputError, match="--max-memory"):
        check_memory(opened, [0], 1, StreamLimits(needed + peak))
