from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from compresskit.codec import coinfit, patchcode, shelf
from compresskit.codec.base import Base
from compresskit.codec.chunks import SymbolCode, known_of, pack_chunk
from compresskit.codec.coinpp import frame_of, layout
from compresskit.codec.decoder import decode_items
from compresskit.codec.encoder import Work, encode_coin, encode_coinpp, encode_plain
from compresskit.codec.exact import OUTPUT, IntegerNetwork, evaluate, evaluate_outputs
from compresskit.codec.guard import Guard
from compresskit.codec.latentcode import LatentCode
from compresskit.codec.latentscan import LAYERED
from compresskit.codec.limits import DEFAULT_STREAM_LIMITS, StreamLimits
from compresskit.codec.modalities import read
from compresskit.codec.opened import Opened, open_stream
from compresskit.codec.patchcode import PatchCodes
from compresskit.codec.regions import parse_region, positions
from compresskit.codec.settings import Setting
from compresskit.codec.signal import Scale, Signal
from compresskit.codec.stream import PREDICTED, PROGRESSIVE, Header, Item, Stream
from compresskit.codec.workspace import SHIFT_MACS, SINE_MACS, check_memory, check_work, work, working_bytes
from compresskit.errors import InputError

MakeBase = Callable[[int, int], Base]


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What networks take, counted where they are evaluated: work without modulations, and without patches of one colour."""
    counted: list[int] = []

    def sines(network: IntegerNetwork) -> int:
        return SINE_MACS * network.hidden * network.width

    def counting(network: IntegerNetwork, coordinates: np.ndarray, shifts: np.ndarray | None, levels: int) -> np.ndarray:
        counted.append(len(coordinates) * (1 if shifts is None else len(shifts)) * (network.macs + sines(network)))
        return evaluate(network, coordinates, shifts, levels)

    def counting_outputs(network: IntegerNetwork, coordinates: np.ndarray, outputs: np.ndarray, levels: int) -> np.ndarray:
        output = network.layers[-1].weight.size
        counted.append(len(coordinates) * (network.macs - output + sines(network) + len(outputs) * output))
        return evaluate_outputs(network, coordinates, outputs, levels)

    for module in (coinfit, patchcode):
        monkeypatch.setattr(module, "evaluate", counting)
    monkeypatch.setattr(patchcode, "evaluate_outputs", counting_outputs)
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
    method: str, guard: Guard, scale: int, region: str, signal: Signal, make_either: MakeBase, evaluated: list[int]
) -> None:
    base = make_either(2, 1)
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
    of_patch = base.network.macs + SINE_MACS * base.network.hidden * base.network.width
    if base.part == OUTPUT:
        of_patch = base.network.layers[-1].weight.size
    of_one_colour = np.count_nonzero(patches) * of_patch * opened.layouts[0].tiles.points * scale**2
    assert found - len(patches) * SHIFT_MACS * base.mapping.size - of_one_colour == sum(evaluated)


@pytest.mark.parametrize("shape", [(1, 40, 56, 1), (2, 21, 30, 1), (1, 21, 30, 4), (1, 7, 7, 60)], ids=str)
@pytest.mark.parametrize("region", ["", "x=0:7,y=0:7"])
def test_work_is_no_less_where_patches_are_computed_in_several_parts(
    shape: tuple[int, ...], region: str, make_base: MakeBase, evaluated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patchcode, "CHUNK", 5)
    base, values = make_base(2, 1), np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    signal = Signal(values, "array", "npy", Scale(0.0, 1.0, 256), 255.0)
    opened = open_stream(encode_coinpp(Work([signal], base, 2), Setting((8,), 6)).stream, base)
    wanted = positions(parse_region(region), opened.stream.items[0], 1) if region else None
    evaluated.clear()
    list(decode_items(opened, [0], 1, parts={0: wanted} if wanted else {}))
    touched = opened.touched(0, wanted, 1)
    modulations = SHIFT_MACS * base.mapping.size * (opened.first_patches[-1] if touched is None else int(np.count_nonzero(touched)))
    assert sum(evaluated) <= work(opened, 0, 1, wanted) - modulations
    if not region:
        assert sum(evaluated) == work(opened, 0, 1) - modulations


def test_stored_samples_take_no_work(signal: Signal) -> None:
    assert work(open_stream(encode_plain(Work([signal], None, 1)).stream), 0, 1) == 0


def test_a_large_volume_is_within_the_default() -> None:
    base = shelf.suited(sphere=False, axes=3, channels=1)
    if base is None or base.network.width < 64:
        pytest.skip("no base network of the usual size ships")
    item = Item("", "volume", "nii", "<i2", (1, 256, 256, 256, 1), Scale(0.0, 1.0, 4096), 4095.0)
    for patch in (4, 8, 24):
        stream = Stream(Header("coin++", base.digest[:4], (patch,), 16), (item,), (), version=PREDICTED[0])
        check_work(Opened(stream, base, (layout(item.shape, 4096, (patch,)),)), [0], 1, {}, DEFAULT_STREAM_LIMITS)


@pytest.mark.parametrize(("in_order", "progressive", "limit"), [(2, 3, 2**20), (*PREDICTED, 2**24)])
def test_an_item_of_a_progressive_archive_takes_the_latents_of_all(
    make_base: MakeBase, make_former: MakeBase, in_order: int, progressive: int, limit: int
) -> None:
    base = (make_base if in_order in PREDICTED else make_former)(2, 1)
    header = Header("coin++", base.digest[:4], (8, 8), 12 if in_order in PREDICTED else 6)
    item = Item("", "array", "npy", "|u1", (1, 80, 80, 1), Scale(0.0, 1.0, 256), 255.0)
    for version, count in ((in_order, 200), (progressive, 200), (progressive, 1)):
        opened = Opened(Stream(header, (item,) * count, (), version=version), base, (layout(item.shape, 256, (8,)),) * count)
        if (version, count) == (progressive, 200):
            with pytest.raises(InputError, match="--max-memory"):
                check_memory(opened, [0], 1, StreamLimits(limit))
        else:
            check_memory(opened, [0], 1, StreamLimits(limit))


@pytest.mark.parametrize("version", PROGRESSIVE)
def test_the_latents_of_a_progressive_stream_take_no_more_than_is_estimated(make_base: MakeBase, make_former: MakeBase, version: int) -> None:
    base, side, random = (make_base if version in PREDICTED else make_former)(2, 1), 400, np.random.default_rng(0)
    item = Item("", "array", "npy", "|u1", (1, side, side, 1), Scale(0.0, 1.0, 256), 255.0)
    lay, constant, colours = layout(item.shape, 256, (8,)), np.zeros(2500, np.bool_), np.empty((0, 1), np.int64)
    frame, values = frame_of(base, [lay], [0, 2500], 0, 2500), random.integers(-32, 32, (2500, base.latents))
    code: SymbolCode | LatentCode
    if base.prior is None:
        code = SymbolCode(base.quantizer(6), base.tables[6], contexts=True, progressive=True)
        latents = code.latents(values)
    else:
        code, known = LatentCode(base.prior, 6, base.steps[6], progressive=True), known_of(base.prior, constant, colours, frame)
        deviations = code.scan(known, np.zeros(LAYERED, np.int64), lambda rows, band, *_: values[rows, band])[1]
        latents = (deviations + base.centers).astype(np.int32)
    chunk = pack_chunk(PatchCodes(constant, colours, latents), code, base.centers, frame)
    header = Header("coin++", base.digest[:4], (8, 8), 12 if version in PREDICTED else 6)
    opened = open_stream(Stream(header, (item,), (chunk,), version=version), base)
    needed = side * side + working_bytes(opened, 0, 1)
    tracemalloc.start()
    np.testing.assert_array_equal(opened.chunk(0).latents, latents)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with pytest.raises(InputError, match="--max-memory"):
        check_memory(opened, [0], 1, StreamLimits(needed + peak))
