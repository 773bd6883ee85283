from __future__ import annotations

import contextlib
import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from compresskit.codec.modalities import default_output, read, write
from compresskit.codec.modalities.image_metadata import ImageMetadata
from compresskit.codec.modalities.png16 import write_png16
from compresskit.codec.signal import Scale, Signal
from compresskit.data.limits import Limits
from compresskit.errors import InputError, UsageError

KODAK = Path(__file__).parents[3] / "../shared/data/kodak"
RNG = np.random.default_rng(0)
ICC = b"not really a profile" * 20
EXIF = Image.Exif()
EXIF[274] = 6  # turned by 90 degrees
EXIF[271] = "A maker"
EXIF_BYTES = EXIF.tobytes().removeprefix(b"Exif\0\0")
KINDS = {  # mode in Pillow: what a signal of it looks like
    "1": (np.uint8, 1),
    "L": (np.uint8, 1),
    "LA": (np.uint8, 2),
    "RGB": (np.uint8, 3),
    "RGBA": (np.uint8, 4),
    "P": (np.uint8, 3),
    "I;16": (np.uint16, 1),
}
STORED = {"png": tuple(KINDS), "tiff": tuple(KINDS), "bmp": ("1", "L", "RGB"), "webp": ("RGB", "RGBA")}


def _picture(mode: str, height: int = 9, width: int = 11) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(RNG.integers(0, 65536, (height, width), np.uint16))
    if mode == "1":
        return Image.fromarray(RNG.random((height, width)) > 0.5)
    if mode == "P":
        return _picture("RGB", height, width).quantize(7)
    channels = KINDS[mode][1]
    return Image.fromarray(RNG.integers(0, 256, (height, width, channels), np.uint8).squeeze())


def _file(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **({"lossless": True, "exact": True} if format == "webp" else {}), **options)
    return stream.getvalue()


def _signal(values: np.ndarray, format: str = "png") -> Signal:
    return Signal(values, "image", format, Scale(0, 1, 256), 255)


@pytest.mark.parametrize(("format", "mode"), [(format, mode) for format, modes in STORED.items() for mode in modes])
def test_every_kind_of_picture_comes_back(format: str, mode: str) -> None:
    picture = _picture(mode)
    signal = read(_file(picture, format), "a.dat")
    dtype, channels = KINDS[mode]
    top = np.iinfo(dtype).max
    assert (signal.modality, signal.format, signal.name) == ("image", format, "a.dat")
    assert (signal.values.shape, signal.values.dtype) == ((1, 9, 11, channels), dtype)
    assert (signal.scale, signal.peak) == (Scale(0, 1, top + 1), top)
    expected = picture.convert({"P": "RGB", "1": "L"}.get(mode, mode))
    assert np.array_equal(signal.values[0].squeeze(), np.asarray(expected))
    with Image.open(io.BytesIO(write(signal))) as restored:
        assert restored.format == format.upper()
        assert restored.mode == expected.mode if mode != "1" else "1"
        assert np.array_equal(np.asarray(restored.convert(expected.mode)), np.asarray(expected))


@given(
    st.sampled_from([(np.uint8, 1), (np.uint8, 2), (np.uint8, 3), (np.uint8, 4), (np.uint16, 1), (np.uint16, 3), (np.uint16, 4)]).flatmap(
        lambda kind: hnp.arrays(kind[0], st.tuples(st.just(1), st.integers(1, 6), st.integers(1, 6), st.just(kind[1])))
    )
)
@settings(max_examples=60)
def test_png_keeps_any_samples(values: np.ndarray) -> None:
    again = read(write(_signal(values), "png"), "a.png").values
    assert again.dtype == values.dtype
    assert np.array_equal(again, values)


def _adam7(values: np.ndarray) -> bytes:
    """An interlaced PNG of (1, 2, 3) 16-bit samples, written here from the specification: pixel 0 is in pass 1, pixel 1 in pass 6."""
    passes = b"".join(b"\0" + values[:, pixel].astype(">u2").tobytes() for pixel in (0, 1))
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 1)
    return _png_chunks((b"IHDR", header), (b"IDAT", zlib.compress(passes)), (b"IEND", b""))


def _png_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def test_sixteen_bit_colour_is_read_from_files_of_others() -> None:
    values = RNG.integers(0, 65536, (1, 2, 3), np.uint16)
    plain = _png_chunks(
        (b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" + values.astype(">u2").tobytes())),
        (b"IEND", b""),
    )
    for data in (plain, _adam7(values)):
        assert np.array_equal(read(data, "a.png").values[0], values)


@pytest.mark.parametrize("format", ["png", "tiff", "webp"])
def test_profile_orientation_and_resolution_come_back(format: str) -> None:
    dpi = {} if format == "webp" else {"dpi": (300, 150)}
    data = _file(_picture("RGB"), format, icc_profile=ICC, exif=EXIF_BYTES, **dpi)
    with Image.open(io.BytesIO(write(read(data, "a")))) as restored:
        assert restored.info["icc_profile"] == ICC
        assert restored.getexif()[271] == "A maker"
        assert restored.getexif().get(274) == (None if format == "tiff" else 6)
        if dpi:
            assert [round(float(dots)) for dots in restored.info["dpi"]] == [300, 150]


def test_sixteen_bit_colour_keeps_them_too() -> None:
    metadata = ImageMetadata(dpi=(300, 150), icc=ICC, exif=EXIF_BYTES)
    data = write_png16(RNG.integers(0, 65536, (4, 5, 3), np.uint16), metadata)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.info["icc_profile"] == ICC
        assert image.getexif()[274] == 6
        assert [round(dots) for dots in image.info["dpi"]] == [300, 150]
    assert write(read(data, "a.png")) == data


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_a_transparent_colour_becomes_alpha(mode: str) -> None:
    picture = _picture(mode)
    first = np.asarray(picture)[0, 0]
    colour = tuple(map(int, first)) if mode == "RGB" else int(first)
    values = read(_file(picture, "png", transparency=colour), "a.png").values[0]
    assert values.shape[-1] == {"RGB": 4, "P": 4}.get(mode, 2)
    same = (np.asarray(picture).reshape(9, 11, -1) == first).all(-1)
    assert np.array_equal(values[..., -1] == 0, same)


def test_jpeg_is_restored_without_a_second_loss() -> None:
    data = _file(_picture("RGB"), "jpeg", exif=EXIF, dpi=(72, 72))
    signal = read(data, "photo.jpg")
    assert (signal.format, default_output(signal)) == ("jpeg", "png")
    again = read(write(signal), "photo.png")
    assert np.array_equal(again.values, signal.values)
    assert ImageMetadata.unpack(again.metadata).exif == EXIF_BYTES
    with pytest.raises(UsageError, match="jpeg would not keep 8-bit samples in 3 channels: choose from png, tiff, bmp, webp"):
        write(signal, "jpg")


def test_an_opaque_alpha_of_webp_is_dropped_in_reading_as_it_is_in_writing() -> None:
    data = bytearray(_file(_picture("RGB"), "webp"))
    data[data.index(b"VP8L") + 12] |= 0x10  # "alpha is used", RFC 9649, section 3.4
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "RGBA"
    signal = read(bytes(data), "a.webp")
    assert signal.values.shape[-1] == 3
    assert np.array_equal(read(write(signal), "a.webp").values, signal.values)


def test_one_bit_is_cut_in_the_middle() -> None:
    signal = read(_file(_picture("1"), "png"), "a.png")
    noisy = np.where(signal.values > 127, 140, 100).astype(np.uint8)
    assert np.array_equal(read(write(replace(signal, values=noisy)), "a.png").values, signal.values)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_tiff_compression_is_kept(compression: str) -> None:
    data = _file(_picture("RGB"), "tiff", compression=compression)
    with Image.open(io.BytesIO(write(read(data, "a.tif")))) as restored:
        assert restored.info["compression"] == compression


@pytest.mark.parametrize(("mode", "format"), [("I;16", "webp"), ("I;16", "bmp"), ("L", "webp"), ("RGBA", "bmp")])
def test_formats_that_would_change_samples_are_refused(mode: str, format: str) -> None:
    signal = read(_file(_picture(mode), "png"), "a.png")
    with pytest.raises(UsageError, match=rf"{format} would not keep .* choose from .*png"):
        write(signal, format)


@pytest.mark.parametrize(
    ("image", "format"),
    [
        (Image.new("CMYK", (3, 3)), "jpeg"),
        (Image.new("CMYK", (3, 3)), "tiff"),
        (Image.new("F", (3, 3)), "tiff"),
        (Image.new("I", (3, 3)), "tiff"),
        (Image.new("LAB", (3, 3)), "tiff"),
    ],
    ids=["cmyk jpeg", "cmyk tiff", "float tiff", "int tiff", "lab tiff"],
)
def test_kinds_that_could_not_be_restored_are_refused(image: Image.Image, format: str) -> None:
    with pytest.raises(InputError, match=r"a.dat: .* could not be restored"):
        read(_file(image, format), "a.dat")


@pytest.mark.parametrize("format", ["png", "tiff", "webp"])
def test_several_frames_are_refused(format: str) -> None:
    data = _file(_picture("RGB"), format, save_all=True, append_images=[_picture("RGB")])
    with pytest.raises(InputError, match="several frames"):
        read(data, "a")


def test_gray_with_alpha_at_sixteen_bits_is_refused_rather_than_cut() -> None:
    data = _png_chunks((b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 4, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(5))), (b"IEND", b""))
    with pytest.raises(InputError, match="could not be restored"):
        read(data, "a.png")


@pytest.mark.parametrize("size", [(6000, 6000), (20000, 20000), (2**31 - 1, 2**31 - 1)])
def test_bombs(size: tuple[int, int]) -> None:
    data = _png_chunks((b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)), (b"IDAT", b""))
    with pytest.raises(InputError, match="max-pixels"):
        read(data, "bomb.png")


def test_the_budget_is_asked() -> None:
    with pytest.raises(InputError, match="max-bytes"):
        read(_file(_picture("RGB"), "png"), "a.png", limits=Limits(max_bytes=9 * 11 * 3 - 1))
    assert read(_file(_picture("RGB"), "png"), "a.png", limits=Limits(max_bytes=9 * 11 * 3)).values.size == 9 * 11 * 3


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("png", {}),
        ("jpeg", {}),
        ("tiff", {}),
        ("tiff", {"compression": "tiff_deflate"}),
        ("tiff", {"compression": "tiff_lzw"}),
        ("bmp", {}),
        ("webp", {}),
    ],
    ids=["png", "jpeg", "tiff", "tiff deflate", "tiff lzw", "bmp", "webp"],
)
def test_damage_is_one_clear_line_or_a_picture(format: str, options: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    data = _file(_picture("RGB", 40, 40), format, **options)
    rng = np.random.default_rng(1)
    for cut in range(12, len(data) - 3, max(1, len(data) // 40)):
        _read_or_refuse(data[:cut])
    for _ in range(150):
        mutant = bytearray(data)
        for position in rng.integers(0, min(len(mutant), 300), 3):
            mutant[position] = rng.integers(256)
        _read_or_refuse(bytes(mutant))
    assert capfd.readouterr() == ("", "")


def _read_or_refuse(data: bytes) -> None:
    """Read and write again, or see one line with the file's name."""
    complaint = ""
    try:
        assert write(read(data, "a.dat", limits=Limits(max_pixels=2**20)))
    except InputError as error:
        complaint = str(error)
    assert not complaint or ("a.dat" in complaint and "\n" not in complaint)


def test_metadata_is_empty_for_most_and_survives_packing() -> None:
    assert read(_file(_picture("RGB"), "png"), "a.png").metadata == b""
    for metadata in (
        ImageMetadata(),
        ImageMetadata(one_bit=True, compression="group4"),
        ImageMetadata(dpi=(72, 96), icc=ICC, exif=EXIF_BYTES),
        ImageMetadata(exif=EXIF_BYTES),
    ):
        assert ImageMetadata.unpack(metadata.pack()) == metadata


@given(st.binary(max_size=40))
@settings(max_examples=100)
def test_damaged_metadata_is_refused_or_harmless(metadata: bytes) -> None:
    for format in ("png", "tiff"):
        signal = replace(_signal(np.zeros((1, 2, 2, 1), np.uint8), format), metadata=metadata)
        with contextlib.suppress(InputError):
            assert read(write(signal), "again").values.shape == (1, 2, 2, 1)


def test_names_of_text_chunks_are_not_taken_for_metadata() -> None:
    text = [(b"tEXt", key + b"\0value") for key in (b"dpi", b"icc_profile", b"compression")]
    data = _file(_picture("L"), "png")
    at = data.index(b"IDAT") - 4
    data = data[:at] + _png_chunks(*text)[8:] + data[at:]
    assert read(data, "a.png").metadata == b""


@pytest.mark.skipif(not KODAK.is_dir(), reason="no ../shared/data")
def test_a_photograph() -> None:
    signal = read((KODAK / "kodim01.png").read_bytes(), "kodim01.png")
    assert signal.values.shape == (1, 512, 768, 3)
    assert np.array_equal(read(write(signal, "webp"), "a.webp").values, signal.values)
