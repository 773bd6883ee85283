"""Streams of real signals, damaged under a checksum that is right: each decodes to what its header declares, or is refused in one line."""

from __future__ import annotations

import io
import random
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from compresskit.codec import calibrate as calibration
from compresskit.codec import learnprior
from compresskit.codec.base import Base
from compresskit.codec.bitstream import pack, unpack
from compresskit.codec.config import DecodeRequest
from compresskit.codec.coordinates import grid
from compresskit.codec.decoder import decode_items
from compresskit.codec.decoding import decode
from compresskit.codec.encoder import Coded, Work, encode_coin, encode_coinpp, encode_plain
from compresskit.codec.exact import ACTIVATION_BITS, IntegerLayer, IntegerNetwork
from compresskit.codec.guard import Guard
from compresskit.codec.limits import StreamLimits
from compresskit.codec.metatrain import TrainBaseConfig, train
from compresskit.codec.modalities import read
from compresskit.codec.opened import Opened, open_stream
from compresskit.codec.rates import points
from compresskit.codec.settings import Setting
from compresskit.codec.signal import Scale, Signal
from compresskit.codec.stream import PREDICTED, Header, Item, Stream
from compresskit.codec.varint import MAX_VARINT, pack_varint
from compresskit.codec.workspace import check_memory, check_work
from compresskit.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

MUTANTS = 10_000
LIMITS = StreamLimits(max_bytes=2**19)
SLACK = 2**24  # the blocks that decoding works on, and the sine table
COUNTS = [pack_varint(value) for value in (0, 1, 127, 1000, 2**16, 2**31, MAX_VARINT)]


@lru_cache(maxsize=1)
def tiny_base() -> Base:
    """Hardly trained, and small enough to decode a thousand times."""
    config = TrainBaseConfig(width=8, depth=2, latents=4, start=20, batch=16)
    x = torch.from_numpy(grid((8, 8))).float() / 2**ACTIVATION_BITS

    def draw(count: int, generator: torch.Generator) -> torch.Tensor:
        return 0.5 + 0.4 * torch.sin(x @ torch.randn(count, 2, 1, generator=generator))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "SAMPLE", 128)
        patch.setattr(calibration, "FITTED", 128)
        patch.setattr(learnprior, "STEPS", 10)
        return calibration.calibrate(train(draw, x, config), draw, x, config, name="tiny", geometry="grid", edges=(8, 8))


def signal(dtype: str, *, holes: bool = False) -> Signal:
    values = (90 * np.sin(np.add.outer(np.arange(14) / 3, np.arange(19) / 5)) + 100).astype(dtype)
    values[:8, :8] = 50
    if holes:
        values[2:4, 3] = np.nan
    buffer = io.BytesIO()
    np.save(buffer, values)
    return read(buffer.getvalue(), "x.npy")


@lru_cache(maxsize=1)
def seeds() -> tuple[bytes, ...]:
    """A stream of every method, guard and order."""
    setting, base = Setting((8,), 5), tiny_base()
    coded: list[Coded] = []
    for guard in (Guard(), Guard("lossless"), Guard("max-error", 2.0)):
        coded.append(encode_coinpp(Work([signal("u1")], base, 2, guard), setting))
        coded.append(encode_coinpp(Work([signal("f4", holes=True), signal("f4")], base, 2, guard, embed=guard.kind == "none"), setting))
        coded.append(encode_coinpp(Work([signal("u1"), signal("u1")], base, 2, guard, progressive=True), setting))
        work = Work([signal("u2")], None, 2, guard)
        coded.append(encode_coin(work, [8.0 * points(one) for one in work.signals], 8, 0))
    coded.append(encode_plain(Work([signal("i2"), signal("i2")], None, 1)))
    return tuple(each.data for each in coded)


def seal(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def mutate(data: bytes, draw: random.Random) -> bytes:
    """A sealed stream like `data` with one to three changes, more often near its start, where everything is declared."""
    body = bytearray(data[:-4])
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(3, min(len(body), draw.choice((40, 2**30))) + 1)
        stop = min(len(body), start + draw.randint(0, 4))
        change = draw.choice(("draw", "flip", "count", "cut"))
        body[start:stop] = {
            "draw": draw.randbytes(stop - start),
            "flip": bytes(byte ^ 1 << draw.randrange(8) for byte in body[start:stop]),
            "count": draw.choice(COUNTS),
        }.get(change, b"")
    return seal(bytes(body))


def opened(data: bytes, *, partial: bool = False) -> Opened:
    """A stream as `decode` opens it."""
    found = open_stream(unpack(data, LIMITS, partial=partial), tiny_base())
    everything = range(len(found.stream.items))
    check_memory(found, everything, 1, LIMITS)
    check_work(found, everything, 1, {}, LIMITS)
    return found


@pytest.fixture
def bounded() -> Iterator[None]:
    """Nothing takes far more memory than is allowed."""
    seeds()
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LIMITS.max_bytes + SLACK


def test_the_seeds_decode(bounded: None) -> None:
    for data in seeds():
        stream = opened(data)
        assert len(list(decode_items(stream, range(len(stream.stream.items))))) == len(stream.stream.items)
        assert stream.base is None or not stream.chunk(0).constant.all()


def refusals(count: int, seed: int, *, cut: bool = False) -> list[str]:
    """Decode so many mutants, each within 5 seconds, or what is left of them when they are `cut` off; what was said of those that were refused."""
    draw, said = random.Random(seed), []
    for _ in range(count):
        mutant = mutate(draw.choice(seeds()), draw)
        mutant = mutant[: draw.randrange(len(mutant))] if cut else mutant
        begun = time.monotonic()
        try:
            stream = opened(mutant, partial=cut)
            assert 0 <= stream.known <= 1
            for item, found in zip(stream.stream.items, decode_items(stream, range(len(stream.stream.items))), strict=True):
                assert (found.values.shape, found.values.dtype) == (item.shape, np.dtype(item.dtype))
        except InputError as error:
            said.append(str(error))
        assert time.monotonic() - begun < 5, mutant.hex()
    return said


def test_mutants_decode_or_are_refused() -> None:
    said = refusals(MUTANTS, 0)
    assert MUTANTS // 8 < len(said) < MUTANTS  # both ways out are taken
    assert all(message.isprintable() and len(message) < 300 for message in said)


def test_mutants_that_were_cut_off_decode_or_are_refused() -> None:
    said = refusals(MUTANTS // 4, 2, cut=True)
    assert MUTANTS // 32 < len(said) < MUTANTS // 4
    assert all(message.isprintable() and len(message) < 300 for message in said)


@pytest.mark.parametrize("cut", [False, True])
def test_mutants_stay_within_their_memory(bounded: None, cut: bool) -> None:
    assert refusals(MUTANTS // 20, 1, cut=cut)


def test_a_few_bytes_that_declare_many_samples_are_refused(bounded: None) -> None:
    base = tiny_base().digest[:4]
    for side, guard, chunk in ((1200, "none", b"\x00"), (300, "lossless", b"\x00"), (1200, "none", seeds()[0][-20:])):
        item = Item("", "array", "npy", "|u1", (1, side, side, 1), Scale(0.0, 1.0, 256), 255.0)
        stream = Stream(Header("coin++", base, (side,), 10, guard), (item,), (chunk,), (b"\x00",) if guard != "none" else (), version=PREDICTED[0])
        with pytest.raises(InputError, match="raise --max-memory"):
            opened(pack(stream))


def test_the_command_has_the_same_limits() -> None:
    item = Item("", "array", "npy", "|u1", (1, 20_000, 20_000, 1), Scale(0.0, 1.0, 256), 255.0)
    data = pack(Stream(Header("coin", bits=8), (item,), (b"\x00" * 40,)))
    with pytest.raises(InputError, match=r"decoding takes .* of memory, over 512 MiB"):
        decode(DecodeRequest("-", standard_input=data, test=True, threads=1))


def vast_base() -> Base:
    """A base network that takes 0.8 million multiply-accumulates a point, in a file of 3 MB."""
    base, width, hidden = tiny_base(), 512, 4
    sizes = [2, *[width] * hidden, 1]
    layers = (IntegerLayer(np.ones((out, fan_in), np.int64), np.zeros(out, np.int64), 16) for fan_in, out in pairwise(sizes))
    return replace(base, network=IntegerNetwork(tuple(layers)), mapping=np.ones((width + 1, base.latents), np.int64), stored=b"")


def vast(method: str) -> Stream:
    """Streams of a megapixel and more that would take minutes to hours to decode."""
    item = Item("", "array", "npy", "|u1", (1, 1200, 1200, 1), Scale(0.0, 1.0, 256), 255.0)
    if method == "coin":
        sizes = pack_varint(4096) + pack_varint(2) + pack_varint(8)
        return Stream(Header("coin", bits=8), (replace(item, shape=(1, 2000, 2000, 1)),), (sizes + bytes(2**17),))
    base = vast_base()
    return Stream(Header("coin++", base.digest[:4], (1200,), 10), (item,), (b"\x00" * 40,), base_file=base.file, version=PREDICTED[0])


@pytest.mark.parametrize("method", ["coin", "coin++"])
def test_a_network_too_large_for_its_points_is_refused_before_it_is_decoded(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack(vast(method))
    monkeypatch.setattr("compresskit.codec.decoding.decode_items", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match=r"decoding takes \S+ multiply-accumulates, over 1.1e\+12; if that is meant, raise --max-macs"):
        decode(DecodeRequest("-", standard_input=data, test=True, threads=1))
    with pytest.raises(pytest.fail.Exception, match="it was decoded"):
        decode(DecodeRequest("-", standard_input=data, test=True, threads=1, max_macs=1e15))


@pytest.mark.parametrize("kind", [("gif", "npy"), ("array", "gif"), ("image", "npy")], ids=str)
def test_kinds_that_cannot_be_written_are_refused(kind: tuple[str, str]) -> None:
    stream = unpack(seeds()[0])
    item = replace(stream.items[0], modality=kind[0], format=kind[1])
    with pytest.raises(InputError, match="which this version does not know"):
        open_stream(replace(stream, items=(item,)), tiny_base())
