"""`encode` and `decode` as library calls, from files to files."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from compresskit.codec import modalities, pipeline
from compresskit.codec.base import SYMBOL_BITS, Base
from compresskit.codec.bitstream import unpack
from compresskit.codec.config import DecodeRequest, EncodeConfig, EncodeRequest
from compresskit.codec.decoder import decode_items
from compresskit.codec.decoding import decode, describe
from compresskit.codec.distortion import distortion
from compresskit.codec.encoder import Work, encode_coinpp
from compresskit.codec.entropy import normalize
from compresskit.codec.opened import open_stream
from compresskit.codec.pipeline import encode
from compresskit.codec.reports import EncodeOutcome
from compresskit.codec.settings import Setting
from compresskit.errors import CompresskitError, GuardError, InputError, OutputError, TargetError, UsageError

BaseFile = Callable[[int, int], Path]
Smooth = Callable[[tuple[int, ...]], np.ndarray]
COIN = EncodeConfig(method="coin", steps=3)


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def encoded(data: bytes, config: EncodeConfig, **options: Any) -> EncodeOutcome:
    return encode(EncodeRequest(("-",), "-", config, threads=1, standard_input=data, **options))


def decoded(stream: bytes, **options: Any) -> bytes:
    outcome = decode(DecodeRequest("-", "-", threads=1, standard_input=stream, **options))
    assert outcome.standard_output is not None
    return outcome.standard_output


def stream_of(outcome: EncodeOutcome) -> bytes:
    assert outcome.standard_output is not None
    return outcome.standard_output


def samples(data: bytes) -> np.ndarray:
    return modalities.read(data, "x").values


def picture(smooth: Smooth, *shape: int) -> bytes:
    return npy((smooth(shape) * 255).astype(np.uint8))


@pytest.fixture
def colour(base_file: BaseFile) -> EncodeConfig:
    """COIN++ with a small base network for one channel."""
    return EncodeConfig(base=str(base_file(2, 1)), steps=3)


@pytest.mark.parametrize("method", ["coin++", "coin"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (23, 17)], ids=str)
def test_what_decodes_is_what_the_report_measured(colour: EncodeConfig, smooth_samples: Smooth, method: str, shape: tuple[int, ...]) -> None:
    config = replace(colour, method=method, base=colour.base if method == "coin++" else None)
    data = picture(smooth_samples, *shape)
    outcome = encoded(data, replace(config, verify=True))
    stream = stream_of(outcome)
    measured = outcome.report.stream.items[0].distortion
    assert measured is not None
    assert distortion(modalities.read(data, "x"), samples(decoded(stream, base=config.base))) == measured
    assert (outcome.report.verified, outcome.report.stream.bytes, sum(outcome.report.stream.sections.values())) == (True, len(stream), len(stream))
    assert outcome.report.stream.bpp == 8 * len(stream) / np.prod(shape)


@pytest.mark.parametrize("dtype", ["|u1", "|i1", "<u2", ">i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8"])
@pytest.mark.parametrize("method", ["coin++", "coin"])
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_lossless_restores_the_file_of_any_dtype(colour: EncodeConfig, dtype: str, method: str, data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=2, max_dims=2, max_side=12))
    elements = arrays.from_dtype(np.dtype(dtype), allow_infinity=False, **({"min_value": -999, "max_value": 999} if "f" in dtype else {}))
    file = npy(data.draw(arrays.arrays(np.dtype(dtype), shape, elements=elements)))
    config = replace(colour, method=method, base=colour.base if method == "coin++" else None, lossless=True, verify=True)
    outcome = encoded(file, config)
    assert outcome.failure is None
    assert decoded(stream_of(outcome), base=config.base) == file


@pytest.mark.parametrize("dtype", ["|u1", "<i4", "<f4", "<f8"])
@pytest.mark.parametrize("tolerance", [0.6, 3.0, 50.0])
def test_no_sample_is_off_by_more_than_the_tolerance(colour: EncodeConfig, smooth_samples: Smooth, dtype: str, tolerance: float) -> None:
    values = (smooth_samples((19, 30)) * 200 + np.random.default_rng(0).normal(size=(19, 30))).astype(dtype)
    if dtype[1] == "f":
        values[3:5, 2:9] = np.nan
    stream = stream_of(encoded(npy(values), replace(colour, max_error=tolerance, verify=True)))
    restored = np.load(io.BytesIO(decoded(stream, base=colour.base)))
    np.testing.assert_array_equal(np.isnan(restored), np.isnan(values))
    assert np.nanmax(np.abs(restored.astype(float) - values)) <= tolerance


@pytest.mark.parametrize("shape", [(40,), (9, 9, 9), (2, 7, 7, 7)], ids=str)
@pytest.mark.parametrize("lossless", [True, False])
def test_lines_volumes_and_series(base_file: BaseFile, smooth_samples: Smooth, shape: tuple[int, ...], lossless: bool) -> None:
    base = str(base_file(min(len(shape), 3), 1))
    values = (smooth_samples(shape) * 900).astype(np.int16)
    stream = stream_of(encoded(npy(values), EncodeConfig(base=base, steps=2, lossless=lossless, verify=True)))
    restored = np.load(io.BytesIO(decoded(stream, base=base)))
    assert restored.shape == shape
    np.testing.assert_array_equal(restored, values) if lossless else None
    assert np.abs(restored - values.astype(float)).max() < 900


def test_the_rate_is_kept_and_the_nearest_such_stream_taken(colour: EncodeConfig, smooth_samples: Smooth) -> None:
    data = picture(smooth_samples, 48, 64)
    sizes = [encoded(data, replace(colour, quality=quality)).report.stream.bytes for quality in range(1, 10)]
    limit = sorted(sizes)[4]
    outcome = encoded(data, replace(colour, bpp=8 * limit / (48 * 64)))
    assert outcome.failure is None
    assert outcome.report.stream.bytes <= limit
    outcome = encoded(data, replace(colour, bpp=1e-6))
    assert isinstance(outcome.failure, TargetError)
    assert outcome.report.stream.bytes == len(stream_of(outcome)) == sizes[0]


def test_the_distortion_is_reached_or_the_nearest_stream_is_a_missed_target(colour: EncodeConfig, smooth_samples: Smooth) -> None:
    data = picture(smooth_samples, 48, 64)
    found = [encoded(data, replace(colour, quality=quality)).report.stream.items[0].distortion for quality in (1, 9)]
    low, high = (item.psnr for item in found if item is not None)
    assert low is not None
    assert high is not None
    outcome = encoded(data, replace(colour, psnr=(low + high) / 2))
    assert outcome.failure is None
    reached = outcome.report.stream.items[0].distortion
    assert reached is not None
    assert (reached.psnr or 0) >= (low + high) / 2
    outcome = encoded(data, replace(colour, psnr=150.0))
    assert isinstance(outcome.failure, TargetError)
    assert decoded(stream_of(outcome), base=colour.base)


@pytest.mark.parametrize("wanted", [{"lossless": True}, {"max_error": 2.0}, {"psnr": 60.0}, {}, {"quality": 1}], ids=str)
def test_signals_too_small_for_a_network_are_coded_all_the_same(wanted: dict[str, Any]) -> None:
    file = npy(np.arange(6, dtype=np.uint8).reshape(2, 3))
    outcome = encoded(file, replace(COIN, **wanted))
    assert outcome.failure is None
    np.testing.assert_allclose(
        np.load(io.BytesIO(decoded(stream_of(outcome)))), np.load(io.BytesIO(file)), atol=2.1 if wanted.get("max_error") else 6
    )


def test_a_rate_of_coin_is_kept_headers_counted(smooth_samples: Smooth) -> None:
    outcome = encoded(picture(smooth_samples, 30, 40), replace(COIN, bpp=1.2))
    assert outcome.failure is None
    assert outcome.report.stream.bpp <= 1.2
    outcome = encoded(picture(smooth_samples, 30, 40), replace(COIN, bpp=0.01))
    assert isinstance(outcome.failure, TargetError)
    assert decoded(stream_of(outcome))


def test_kbps_is_for_sound(colour: EncodeConfig) -> None:
    with pytest.raises(UsageError, match="--kbps is for sound: use --bpp"):
        encoded(npy(np.zeros((4, 4), np.uint8)), replace(colour, kbps=5.0))


def test_a_constant_costs_next_to_nothing(colour: EncodeConfig) -> None:
    file = npy(np.full((200, 300), 7, np.uint8))
    outcome = encoded(file, colour)
    assert outcome.report.stream.bytes < 160
    assert decoded(stream_of(outcome), base=colour.base) == file


def test_plain_samples_where_they_are_smaller(colour: EncodeConfig) -> None:
    file = npy(np.arange(16, dtype=np.uint8).reshape(4, 4))
    config = replace(colour, lossless=True, embed_base=True)
    warned = encoded(file, config)
    assert "--fallback stores them in its place" in warned.report.warnings[0]
    outcome = encoded(file, replace(config, fallback=True))
    assert (outcome.report.stream.method, outcome.report.stream.base, outcome.failure) == ("plain", None, None)
    assert len(stream_of(outcome)) < len(stream_of(warned))
    assert decoded(stream_of(outcome)) == file


def test_an_embedded_base_network_goes_along(colour: EncodeConfig, smooth_samples: Smooth) -> None:
    data = picture(smooth_samples, 20, 20)
    bare, whole = (stream_of(encoded(data, replace(colour, embed_base=embed))) for embed in (False, True))
    assert decoded(whole) == decoded(bare, base=colour.base)
    assert unpack(whole).base_file == Path(colour.base or "").read_bytes()
    assert describe(whole, "whole").bpp_with_base == describe(whole, "whole").bpp


def test_a_base_network_that_is_missing_or_another_is_named_by_its_hash(colour: EncodeConfig, base_file: BaseFile, smooth_samples: Smooth) -> None:
    stream = stream_of(encoded(picture(smooth_samples, 20, 20), colour))
    wanted = hashlib.sha256(Path(colour.base or "").read_bytes()).hexdigest()[:8]
    other = hashlib.sha256(base_file(2, 3).read_bytes()).hexdigest()[:8]
    with pytest.raises(InputError, match=f"needs the base network {wanted}, which does not ship with this release: give its file with --base"):
        decoded(stream)
    with pytest.raises(InputError, match=f"needs the base network {wanted}, .* is {other}"):
        decoded(stream, base=str(base_file(2, 3)))
    assert describe(stream, "stream").base == wanted


@pytest.mark.parametrize("config", [{}, {"contexts": False}, {"progressive": True}, {"lossless": True}], ids=str)
def test_base_networks_of_the_former_kind_still_encode(
    make_former: Callable[[int, int], Base], tmp_path: Path, smooth_samples: Smooth, config: dict[str, Any]
) -> None:
    path = tmp_path / "former"
    path.write_bytes(make_former(2, 1).file)
    outcome = encoded(picture(smooth_samples, 30, 40), EncodeConfig(base=str(path), steps=3, verify=True, **config))
    assert outcome.failure is None
    assert unpack(stream_of(outcome)).version in ({3} if "progressive" in config else {1, 2})


def test_a_base_network_for_other_data_is_refused_before_anything_is_fitted(base_file: BaseFile) -> None:
    with pytest.raises(UsageError, match="is for grids of 3 axes, and this is grids of 2 axes"):
        encoded(npy(np.zeros((4, 4), np.uint8)), EncodeConfig(base=str(base_file(3, 1))))


@pytest.fixture
def archive(tmp_path: Path, colour: EncodeConfig, smooth_samples: Smooth) -> tuple[list[Path], Path]:
    """Files of one kind in two folders, some of one name; and their archive."""
    files = [tmp_path / name for name in ("a/x.npy", "b/x.npy", "a/y.1.npy", "a/y.2.npy")]
    for number, file in enumerate(files):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(picture(smooth_samples, 9 + number, 12))
    encode(EncodeRequest(tuple(map(str, files)), str(tmp_path / "set.coinpp"), replace(colour, lossless=True), threads=1))
    return files, tmp_path / "set.coinpp"


def test_every_item_of_an_archive_comes_back_under_its_name(archive: tuple[list[Path], Path], colour: EncodeConfig, tmp_path: Path) -> None:
    files, stream = archive
    decode(DecodeRequest(str(stream), f"{tmp_path}/out/", base=colour.base, threads=1))
    names = ["x.item00000.npy", "x.item00001.npy", "y.1.npy", "y.2.npy"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert [(tmp_path / "out" / name).read_bytes() for name in names] == [file.read_bytes() for file in files]


def test_an_item_decodes_alone(archive: tuple[list[Path], Path], colour: EncodeConfig, tmp_path: Path) -> None:
    files, stream = archive
    for number, file in enumerate(files):
        assert decoded(stream.read_bytes(), item=number, base=colour.base) == file.read_bytes()
    with pytest.raises(UsageError, match="--item 4 is not in the stream: it has items 0 to 3"):
        decoded(stream.read_bytes(), item=4, base=colour.base)
    with pytest.raises(UsageError, match="holds 4 items, and the standard output takes one"):
        decoded(stream.read_bytes(), base=colour.base)
    with pytest.raises(UsageError, match="would take the place of several files"):
        decode(DecodeRequest(str(stream), str(tmp_path / "one.npy"), base=colour.base, threads=1))


def test_nothing_is_written_where_one_of_several_files_exists(archive: tuple[list[Path], Path], colour: EncodeConfig, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/y.2.npy").write_bytes(b"kept")
    request = DecodeRequest(str(archive[1]), str(tmp_path / "out"), base=colour.base, threads=1)
    with pytest.raises(UsageError, match="exists: use --force"):
        decode(request)
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [b"kept"]
    assert len(decode(replace(request, force=True)).report.outputs) == 4
    with pytest.raises(OutputError, match="cannot make the folder"):
        decode(replace(request, output=f"{archive[0][0]}/"))


def test_frequency_tables_go_along_where_that_is_smaller(make_former: Callable[[int, int], Base]) -> None:
    rows, columns = np.indices((120, 120))
    signal = modalities.read(npy((120 + 90 * np.sin((rows + columns) / 2)).astype(np.uint8)), "x.npy")
    known = make_former(2, 1)
    only_first = {bits: normalize(np.eye(1, 1 << bits, dtype=np.int64).repeat(known.latents, axis=0)) for bits in SYMBOL_BITS}
    base = replace(known, tables=only_first)
    coded = encode_coinpp(Work([signal], base, 3, contexts=False), Setting((8,), 5))
    assert coded.stream.tables
    opened = open_stream(unpack(coded.data), base)
    np.testing.assert_array_equal(next(decode_items(opened, [0])).values, coded.decoded[0])
    with pytest.raises(InputError, match="damaged frequency tables"):
        open_stream(replace(opened.stream, tables=b"x"), base)


@pytest.mark.parametrize("broken", ["samples", "mask", "refused"])
def test_a_failed_verification_writes_nothing(
    colour: EncodeConfig, smooth_samples: Smooth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    true = pipeline.unpacked_signals

    def spoiled(*request: Any) -> Any:
        for signal in true(*request):
            if broken == "refused":
                raise InputError("damaged")
            yield replace(signal, values=signal.values ^ 1) if broken == "samples" else replace(signal, metadata=b"x")

    monkeypatch.setattr(pipeline, "unpacked_signals", spoiled)
    source, output = tmp_path / "a.npy", tmp_path / "a.coinpp"
    source.write_bytes(picture(smooth_samples, 12, 12))
    outcome = encode(EncodeRequest((str(source),), str(output), replace(colour, verify=True), threads=1, preview=str(tmp_path / "p.png")))
    assert isinstance(outcome.failure, GuardError)
    assert (outcome.report.outputs, outcome.report.verified) == ((), False)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"output": "there"}, "there exists: use --force"),
        ({"output": "a.npy", "force": True}, "is an input"),
        ({"preview": "p.doc"}, "the suffix decides the format"),
        ({"preview": "out.png", "output": "out.png"}, "are one file"),
        ({"preview": "there"}, "suffix"),
    ],
    ids=str,
)
def test_outputs_are_checked_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour: EncodeConfig, change: dict[str, Any], error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").touch()
    Path("a.npy").write_bytes(npy(np.zeros((3, 3), np.uint8)))
    monkeypatch.setattr(pipeline, "_read_all", None)
    with pytest.raises(UsageError, match=error):
        encode(replace(EncodeRequest(("a.npy",), "a.coinpp", colour, threads=1), **change))


@pytest.mark.parametrize("limit", [2**10, 2**16])
def test_more_memory_than_is_allowed_is_refused(colour: EncodeConfig, limit: int) -> None:
    stream = stream_of(encoded(npy(np.full((300, 300), 7, np.uint8)), colour))
    with pytest.raises(InputError, match="--max-memory"):
        decoded(stream, base=colour.base, max_memory=limit)


@pytest.mark.parametrize("data", [b"", b"just text", b"\x93NUMPY\x01\x00"], ids=["empty", "text", "cut off"])
def test_what_is_no_data_is_refused(data: bytes) -> None:
    with pytest.raises(CompresskitError) as caught:
        encoded(data, COIN)
    assert isinstance(caught.value, InputError)
    assert "\n" not in str(caught.value)


def test_an_archive_is_the_same_for_any_number_of_jobs(smooth_samples: Smooth, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.npy" for number in range(3)]
    for number, file in enumerate(files):
        file.write_bytes(picture(smooth_samples, 12 + number, 13))
    streams = []
    for jobs in (1, 2):
        output = tmp_path / f"{jobs}.coinpp"
        encode(EncodeRequest(tuple(map(str, files)), str(output), EncodeConfig(method="coin", steps=20), jobs=jobs))
        streams.append(output.read_bytes())
    assert streams[0] == streams[1]
