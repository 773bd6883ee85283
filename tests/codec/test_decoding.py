"""`decode --partial`, and `encode --progressive`: what streams that were cut off decode to, and what is refused."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compresskit.codec.base import Base
from compresskit.codec.bitstream import section_sizes, unpack
from compresskit.codec.chunks import known_of
from compresskit.codec.coinpp import decode_signal, frame_of
from compresskit.codec.config import DecodeRequest, EncodeConfig
from compresskit.codec.decoder import decode_items
from compresskit.codec.decoding import decode
from compresskit.codec.encoder import Coded, Work, encode_coin, encode_coinpp, encode_plain
from compresskit.codec.guard import Guard
from compresskit.codec.latentcode import LatentCode
from compresskit.codec.latentscan import LAYERED
from compresskit.codec.levels import from_levels
from compresskit.codec.metrics import psnr
from compresskit.codec.modalities import read
from compresskit.codec.opened import Opened, open_stream
from compresskit.codec.patchcode import PatchCodes
from compresskit.codec.regions import parse_region, positions
from compresskit.codec.reports import DecodeOutcome
from compresskit.codec.settings import Setting
from compresskit.codec.signal import Signal
from compresskit.codec.stream import PREDICTED
from compresskit.errors import InputError, UsageError

GOLDEN = Path(__file__).parents[1] / "golden"
BITS = 6
MakeBase = Callable[[int, int], Base]


@pytest.fixture
def signal(smooth_samples: Callable[[tuple[int, ...]], np.ndarray]) -> Signal:
    """A picture of waves of several lengths, with a corner of one colour. It needs no metadata, so that its streams may do without sections."""
    values = 80 * smooth_samples((40, 56)) + 60 * np.sin(np.add.outer(np.arange(40) ** 1.5 / 9, np.arange(56) / 3)) + 90
    values[:9, :9] = 70
    file = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(file, "png")
    return read(file.getvalue(), "x.png")


@dataclass(frozen=True)
class Maker:
    """Streams of one base network."""

    base: Base

    def coded(self, *signals: Signal, guard: Guard | None = None, contexts: bool = True, progressive: bool = False) -> Coded:
        work = Work(signals, self.base, 2, guard or Guard(), effort=1, contexts=contexts, progressive=progressive)
        return encode_coinpp(work, Setting((8,), BITS))

    def opened(self, data: bytes, *, partial: bool = True) -> Opened:
        return open_stream(unpack(data, partial=partial), self.base)

    def decoded(self, data: bytes) -> list[np.ndarray]:
        opened = self.opened(data)
        return [signal.values for signal in decode_items(opened, range(len(opened.stream.items)))]


@pytest.fixture
def maker(make_either: MakeBase) -> Maker:
    return Maker(make_either(2, 1))


def cuts(data: bytes, least: int = 0, count: int = 40) -> Iterator[bytes]:
    return (data[:length] for length in np.linspace(least, len(data) - 1, count).astype(int))


def test_the_order_changes_no_sample_and_hardly_the_size(make_former: MakeBase, signal: Signal) -> None:
    maker = Maker(make_former(2, 1))
    plain, progressive = (maker.coded(signal, progressive=choice) for choice in (False, True))
    assert (plain.stream.version in (1, 2), progressive.stream.version, len(progressive.stream.chunks)) == (True, 3, 1)
    np.testing.assert_array_equal(maker.decoded(progressive.data)[0], plain.decoded[0])
    assert unpack(progressive.data) == progressive.stream
    assert len(progressive.data) < 1.03 * len(plain.data) + 16


def test_the_order_of_predicted_latents_changes_samples_and_size_by_little(make_base: MakeBase, signal: Signal) -> None:
    """What is rounded lies around what is guessed, of which there is less before finer latents are there."""
    maker = Maker(make_base(2, 1))
    plain, progressive = (maker.coded(signal, progressive=choice) for choice in (False, True))
    assert (plain.stream.version, progressive.stream.version, len(progressive.stream.chunks)) == (*PREDICTED, 1)
    for coded in (plain, progressive):
        assert unpack(coded.data) == coded.stream
        np.testing.assert_array_equal(maker.decoded(coded.data)[0], coded.decoded[0])
    one, other = (psnr(signal.values, coded.decoded[0], 255.0) for coded in (plain, progressive))
    assert one == pytest.approx(other, abs=0.2)
    assert len(progressive.data) < 1.1 * len(plain.data) + 16


def test_a_beginning_is_the_same_code_without_its_last_bands(make_former: MakeBase, signal: Signal) -> None:
    maker = Maker(make_former(2, 1))
    data = maker.coded(signal, progressive=True).data
    opened = maker.opened(data)
    whole, lay, seen = opened.chunk(0), opened.layouts[0], set()
    for beginning in cuts(data, section_sizes(data)["header"] + 40, 20):
        if not len(maker.opened(beginning).chunk(0).colours):  # not even these are there
            continue
        share, coarse = maker.opened(beginning).known, whole.latents.copy()
        known = round((share * len(whole) - len(whole.colours)) * maker.base.latents / len(coarse))
        coarse[:, known:] = maker.base.centers[known:]
        levels = decode_signal(maker.base, PatchCodes(whole.constant, whole.colours, coarse), lay)
        np.testing.assert_array_equal(maker.decoded(beginning)[0], from_levels(levels, signal.scale, signal.values.dtype))
        seen.add(known)
    assert len(seen) > 4


@pytest.mark.parametrize("progressive", [False, True])
def test_a_beginning_of_predicted_latents_is_the_same_code_with_guesses_for_the_last(
    make_base: MakeBase, signal: Signal, *, progressive: bool
) -> None:
    maker = Maker(make_base(2, 1))
    data = maker.coded(signal, guard=Guard("lossless"), progressive=progressive).data
    data = data[: -section_sizes(data)["residuals"] - 4]
    opened = maker.opened(data)
    (whole, lay, code), seen = (opened.chunk(0), opened.layouts[0], opened.code), set()
    assert isinstance(code, LatentCode)
    known = known_of(code.prior, whole.constant, whole.colours, frame_of(maker.base, opened.layouts, opened.first_patches, 0, len(whole)))
    deviations = known.deviations.copy()
    deviations[~whole.constant] = whole.latents - maker.base.centers
    for beginning in cuts(data, data.index(opened.stream.chunks[0]) + 60, 20):
        told = left = round(maker.opened(beginning).known * len(whole) * maker.base.latents) - len(whole.colours) * maker.base.latents

        def visit(rows: np.ndarray, band: slice, _: np.ndarray, guesses: np.ndarray) -> np.ndarray:
            nonlocal left
            begun, left = left > 0, left - guesses.size
            return (deviations[rows, band] - guesses) // code.step if begun else np.zeros_like(guesses)

        latents = (code.scan(known, np.zeros(LAYERED, np.int64), visit)[1] + maker.base.centers)[~whole.constant].astype(np.int32)
        levels = decode_signal(maker.base, PatchCodes(whole.constant, whole.colours, latents), lay)
        np.testing.assert_array_equal(maker.decoded(beginning)[0], from_levels(levels, signal.scale, signal.values.dtype))
        seen.add(told)
    assert len(seen) > 2


def test_the_longer_the_beginning_the_better(maker: Maker, signal: Signal) -> None:
    data = maker.coded(signal, progressive=True).data
    found = [psnr(signal.values, maker.decoded(beginning)[0], 255.0) for beginning in cuts(data, section_sizes(data)["header"] + 10, 15)]
    assert (np.diff(found) > -0.5).all()
    assert found[-1] > found[0] + 3


@pytest.mark.parametrize("way", ["tables", "contexts", "progressive", "guarded", "archive"])
def test_a_cut_anywhere_decodes_or_is_refused_in_one_line(maker: Maker, signal: Signal, way: str) -> None:
    small = replace(signal, values=signal.values[:, :20, :20])
    guard = Guard("lossless") if way == "guarded" else Guard()
    signals = [small] if way != "archive" else [small, replace(small, values=small.values[:, ::-1])]
    data = maker.coded(*signals, guard=guard, contexts=way != "tables", progressive=way in ("progressive", "guarded")).data
    assert ("chunks" in section_sizes(data), len(unpack(data).chunks)) == (True, 1)
    refused = []
    for length in range(len(data)):
        with pytest.raises(InputError, match="bitstream"):
            unpack(data[:length])
        try:
            found = maker.decoded(data[:length])
        except InputError as error:
            refused.append((length, str(error)))
        else:
            assert [values.shape for values in found] == [signal.values.shape for signal in signals]
    assert [length for length, _ in refused] == list(range(len(refused)))
    assert len(refused) <= data.index(unpack(data).chunks[0])
    assert all(re.fullmatch(r"not a compresskit bitstream.*|.*: get more of it", message) for _, message in refused)


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("*.coinpp") if "-coin" not in path.name))
def test_streams_of_every_version_can_be_cut_off(name: str) -> None:
    data = (GOLDEN / name).read_bytes()
    sizes = section_sizes(data)
    start = len(data) - sizes["checksum"] - sizes.get("residuals", 0) - sizes["chunks"]
    shares = []
    for beginning in cuts(data, start + 3, 5):
        opened = open_stream(unpack(beginning, partial=True))
        list(decode_items(opened, [0]))
        shares.append(opened.known)
    assert shares == sorted(shares)
    assert shares[0] < 0.1


def test_whole_chunks_decode_exactly_and_missing_ones_to_the_mean(maker: Maker, signal: Signal) -> None:
    times = 10 if maker.base.prior else 5
    wide = replace(signal, values=np.tile(signal.values, (1, times, times, 1)))
    data = maker.coded(wide).data
    chunks = unpack(data).chunks
    assert len(chunks) == 4
    cut = data.index(chunks[1]) + len(chunks[1])
    for beginning, whole in ((data[:cut], 2), (data[: cut - 1], 1)):
        opened = maker.opened(beginning)
        codes = [opened.chunk(index) for index in range(4)]
        np.testing.assert_array_equal(codes[0].latents, maker.opened(data).chunk(0).latents)
        assert opened.stream.whole == whole
        assert whole / 4 < opened.known < 0.6
        assert all((part.latents == maker.base.centers).all() and not part.constant.any() for part in codes[2:])


@pytest.mark.parametrize("progressive", [False, True])
def test_a_guard_holds_where_its_corrections_are_there(maker: Maker, signal: Signal, progressive: bool) -> None:
    signals = [signal, replace(signal, values=signal.values[:, ::-1]), replace(signal, values=signal.values[:, :, ::-1])]
    data = maker.coded(*signals, guard=Guard("lossless"), progressive=progressive).data
    residuals = unpack(data).residuals
    found = maker.decoded(data[: data.index(residuals[1]) + len(residuals[1]) - 1])
    np.testing.assert_array_equal(found[0], signals[0].values)
    bare = maker.opened(data)
    bare = open_stream(replace(bare.stream, header=replace(bare.stream.header, guard="none"), residuals=()), maker.base)
    for values, without in zip(found[1:], list(decode_items(bare, [1, 2])), strict=True):
        np.testing.assert_array_equal(values, without.values)


def test_parts_of_a_progressive_archive(maker: Maker, signal: Signal) -> None:
    signals = [signal, replace(signal, values=signal.values[:, ::-1])]
    coded = maker.coded(*signals, progressive=True)
    opened = maker.opened(coded.data)
    np.testing.assert_array_equal(next(decode_items(opened, [1])).values, coded.decoded[1])
    parts = positions(parse_region("x=10:20,y=3:9"), opened.stream.items[1])
    values = next(decode_items(opened, [1], parts={1: parts})).values
    np.testing.assert_array_equal(values[:, 3:9, 10:20], coded.decoded[1][:, 3:9, 10:20])


def test_what_was_altered_is_refused(maker: Maker, signal: Signal) -> None:
    data = bytearray(maker.coded(signal, progressive=True).data)
    data[-30] ^= 4
    with pytest.raises(InputError, match="all of it is there, but its checksum does not match"):
        unpack(bytes(data), partial=True)
    with pytest.raises(InputError, match="was cut off or altered; get a fresh copy, or decode what is there with --partial"):
        unpack(bytes(data))


def test_nothing_to_begin_with_is_refused(maker: Maker, signal: Signal) -> None:
    coded = maker.coded(signal, signal, progressive=True)
    data = coded.data
    header = section_sizes(data)["header"]
    with pytest.raises(InputError, match=f"cut off after {header - 1} bytes, before it says what it holds: get more of it"):
        unpack(data[: header - 1], partial=True)
    with pytest.raises(InputError, match=r"before its chunks begin \(of its sections, names\): get more of it"):
        unpack(data[: header + section_sizes(data)["names"]], partial=True)


@pytest.mark.parametrize("method", ["coin", "plain"])
def test_other_methods_are_refused(method: str, signal: Signal) -> None:
    coded = encode_plain(Work([signal], None, 1)) if method == "plain" else encode_coin(Work([signal], None, 1), [4000.0], 8, 0)
    with pytest.raises(InputError, match=f"--partial is for COIN\\+\\+, and this one is of method {method}"):
        open_stream(unpack(coded.data[:-9], partial=True))


def outcome(maker: Maker, data: bytes, tmp_path: Path, **options: bool) -> DecodeOutcome:
    (tmp_path / "base").write_bytes(maker.base.file)
    return decode(DecodeRequest("-", "-", base=str(tmp_path / "base"), threads=1, standard_input=data, **options))


def test_the_report_says_how_much_was_there(maker: Maker, signal: Signal, tmp_path: Path) -> None:
    data = maker.coded(signal, guard=Guard("lossless"), progressive=True).data
    half = data[: len(data) - section_sizes(data)["residuals"] - 25]
    report = outcome(maker, half, tmp_path, partial=True).report
    assert report.remains is not None
    assert (0 < report.remains.latents < 1, report.remains.guarded, report.verified) == (True, 0, False)
    assert f"{report.remains.latents:.1%} of its latents are there" in report.warnings[0]
    assert "encoded without loss, which holds for 0 of 1 items" in report.warnings[1]
    assert sum(report.stream.sections.values()) == report.stream.bytes == len(half)
    assert report.stream.progressive
    with pytest.raises(InputError, match="decode what is there with --partial"):
        outcome(maker, half, tmp_path)


def test_all_but_the_checksum_is_checked_by_the_digest(maker: Maker, signal: Signal, tmp_path: Path) -> None:
    data = maker.coded(signal, guard=Guard("lossless"), progressive=True).data
    found = outcome(maker, data[:-1], tmp_path, partial=True)
    assert found.standard_output == outcome(maker, data, tmp_path).standard_output
    assert found.report.remains is not None
    assert (found.report.remains.latents, found.report.remains.guarded, found.report.verified) == (1, 1, True)
    assert len(found.report.warnings) == 1


def test_a_whole_stream_decodes_as_without_the_option(maker: Maker, signal: Signal, tmp_path: Path) -> None:
    data = maker.coded(signal, guard=Guard("lossless")).data
    one, other = (outcome(maker, data, tmp_path, partial=choice) for choice in (True, False))
    assert one.standard_output == other.standard_output
    assert (one.report.remains, one.report.verified, one.report.warnings, one.report.stream.progressive) == (None, True, (), False)


def test_coin_has_no_order() -> None:
    with pytest.raises(UsageError, match="--progressive orders latents, and COIN has none"):
        EncodeConfig(method="coin", progressive=True)
