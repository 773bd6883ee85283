from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compresskit.codec import levels as rendering
from compresskit.codec import shelf
from compresskit.codec.base import Base
from compresskit.codec.coinpp import layout
from compresskit.codec.decoder import Opened, decode_items, open_stream
from compresskit.codec.encoder import Work, encode_coin, encode_coinpp, encode_plain
from compresskit.codec.exact import IntegerNetwork, evaluate
from compresskit.codec.guard import Guard
from compresskit.codec.limits import DEFAULT_STREAM_LIMITS
from compresskit.codec.modalities import read
from compresskit.codec.regions import parse_region, positions
from compresskit.codec.settings import Setting
from compresskit.codec.signal import Scale, Signal
from compresskit.codec.stream import Header, Item, Stream
from compresskit.codec.workspace import SHIFT_MACS, SINE_MACS, check_work, work

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
