from __future__ import annotations

import contextlib
import io
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.codec.modalities import default_output, read, write
from compresskit.codec.signal import Scale, Signal
from compresskit.data.limits import Limits
from compresskit.errors import InputError, UsageError

SPEECH = Path(__file__).parents[3] / "../shared/data/speech"
STORED = [
    *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    *(("WAVEX", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    *(("RF64", subtype) for subtype in ("PCM_16", "PCM_24", "FLOAT")),
    *(("FLAC", subtype) for subtype in ("PCM_S8", "PCM_16", "PCM_24")),
]
INTEGERS = {"PCM_U8": (8, "i1"), "PCM_S8": (8, "i1"), "PCM_16": (16, "i2"), "PCM_24": (24, "i4"), "PCM_32": (32, "i4")}


def _samples(subtype: str, frames: int = 300, channels: int = 2, seed: int = 0) -> np.ndarray:
    """Samples as a signal has them, the extremes of their type among them."""
    rng = np.random.default_rng(seed)
    if subtype not in INTEGERS:
        return rng.uniform(-1, 1, (frames, channels)).astype("f4" if subtype == "FLOAT" else "f8")
    bits, dtype = INTEGERS[subtype]
    samples = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (frames, channels))
    samples[0], samples[-1] = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return samples.astype(dtype)


def _file(samples: np.ndarray, container: str, subtype: str, rate: int = 16000, endian: str | None = None) -> bytes:
    """A file by libsndfile, which takes integers in the upper bits of 16 or 32."""
    bits = INTEGERS.get(subtype, (0, ""))[0]
    wide = samples.astype(np.int16) << (16 - bits) if bits in (8, 16) else samples << (32 - bits) if bits else samples
    stream = io.BytesIO()
    soundfile.write(stream, wide, rate, format=container, subtype=subtype, endian=endian)
    return stream.getvalue()


def _plain(samples: bytes, declared: int | None = None, rate: int = 8000, channels: int = 1, bits: int = 16) -> bytes:
    """A PCM WAV written here from the format's description, whose header may lie."""
    length = len(samples) if declared is None else declared
    block = channels * bits // 8
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * block, block, bits)
    return (
        b"RIFF"
        + struct.pack("<I", min(36 + length + length % 2, 2**32 - 1))
        + b"WAVEfmt "
        + form
        + b"data"
        + struct.pack("<I", length)
        + samples
        + bytes(len(samples) % 2)
    )


@pytest.mark.parametrize(("container", "subtype"), STORED)
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_every_kind_of_sound_comes_back(container: str, subtype: str, channels: int) -> None:
    samples = _samples(subtype, channels=channels)
    data = _file(samples, container, subtype, rate=44100)
    signal = read(data, "a.dat")
    assert (signal.modality, signal.format, signal.name) == ("audio", "flac" if container == "FLAC" else "wav", "a.dat")
    assert signal.values.dtype == samples.dtype
    assert np.array_equal(signal.values, samples[np.newaxis])
    again = write(signal)
    info = soundfile.info(io.BytesIO(again))
    assert (info.format, info.subtype, info.samplerate, info.channels, info.frames) == (container, subtype, 44100, channels, 300)
    assert np.array_equal(read(again, "b").values, signal.values)
    if container != "FLAC":
        assert again == data


@given(st.integers(1, 5), st.integers(1, 8), st.sampled_from(sorted(INTEGERS)), st.integers(1, 655350), st.integers(0, 99))
@settings(max_examples=60)
def test_any_shape_and_rate_comes_back(frames: int, channels: int, subtype: str, rate: int, seed: int) -> None:
    samples = _samples(subtype, frames, channels, seed)
    if subtype != "PCM_S8":
        data = _file(samples, "WAV", subtype, rate)
        assert write(read(data, "a.wav")) == data
    if subtype not in ("PCM_U8", "PCM_32") and rate < 2**16:
        signal = read(_file(samples, "FLAC", subtype, rate), "a.flac")
        assert np.array_equal(signal.values[0], samples)
        assert np.array_equal(read(write(signal, "wav"), "b").values, signal.values)


def test_the_usual_metadata_is_five_bytes() -> None:
    for data in (_plain(bytes(100)), _plain(bytes(7), bits=8, rate=192000), _file(_samples("PCM_24"), "FLAC", "PCM_24")):
        assert len(read(data, "a").metadata) == 5


@pytest.mark.parametrize(
    "data",
    [
        _plain(bytes(100)) + b"LIST" + struct.pack("<I", 4) + b"INFO",
        _plain(bytes(100)).replace(b"data", b"bext" + struct.pack("<I", 3) + b"abc\0data"),
        _plain(bytes(100), declared=2**32 - 1),
        _plain(bytes(100), declared=0x7FFFF000),
        _plain(bytes(101)),
        _file(_samples("PCM_16"), "WAV", "PCM_16", endian="BIG"),
        _file(_samples("PCM_24"), "WAV", "PCM_24", endian="BIG"),
        _file(_samples("DOUBLE"), "WAV", "DOUBLE", endian="BIG"),
    ],
    ids=["list", "bext", "streamed", "streamed by others", "odd", "big-endian 16", "big-endian 24", "big-endian float"],
)
def test_a_wav_comes_back_byte_for_byte(data: bytes) -> None:
    assert write(read(data, "a.wav")) == data


def test_another_number_of_samples_gets_a_new_container() -> None:
    signal = read(_file(_samples("PCM_24"), "WAV", "PCM_24", endian="BIG"), "a.wav")
    shorter = replace(signal, values=signal.values[:, 100:201])
    again = read(write(shorter), "a.wav")
    assert np.array_equal(again.values, shorter.values)
    assert len(again.metadata) == 5


@pytest.mark.parametrize(
    ("subtype", "scale", "peak"),
    [
        ("PCM_U8", Scale(-128, 1, 256), 255),
        ("PCM_16", Scale(-32768, 1, 65536), 65535),
        ("PCM_24", Scale(-(2**23), 256, 65536), 2**24 - 1),
        ("PCM_32", Scale(-(2**31), 65536, 65536), 2**32 - 1),
        ("FLOAT", Scale(-1, 2 / 65535, 65536), 2),
    ],
)
def test_levels_span_the_type(subtype: str, scale: Scale, peak: float) -> None:
    signal = read(_file(_samples(subtype), "WAV", subtype), "a.wav")
    assert (signal.scale, signal.peak) == (scale, peak)


def test_levels_span_floats_beyond_one() -> None:
    samples = np.array([[0.5], [-3.0], [1e300]])
    signal = read(_file(samples, "WAV", "DOUBLE"), "a.wav")
    assert np.array_equal(signal.values[0], samples)
    assert signal.scale.low == -1e300
    assert signal.scale.low + signal.scale.step * 65535 == pytest.approx(1e300)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="NaN or infinite"):
        read(_file(np.array([[0.0], [value]]), "WAV", "DOUBLE"), "a.wav")


@pytest.mark.parametrize(("container", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM")])
def test_lossy_sound_becomes_sixteen_bits(container: str, subtype: str) -> None:
    wave = 0.5 * np.sin(np.arange(4000) / 20)[:, np.newaxis]
    data = _file(wave, container, subtype)
    signal = read(data, "a.ogg")
    assert (signal.values.dtype, default_output(signal)) == (np.int16, "wav")
    decoded, _ = soundfile.read(io.BytesIO(data), always_2d=True)
    assert np.abs(signal.values[0] - decoded * 2**15).max() <= 0.5
    assert np.array_equal(read(write(signal), "a.wav").values, signal.values)


def test_formats_that_would_change_samples_are_refused() -> None:
    for subtype, words in (("PCM_32", "32-bit integers"), ("FLOAT", "32-bit floats"), ("DOUBLE", "64-bit floats")):
        with pytest.raises(UsageError, match=f"flac has no {words}: choose wav"):
            write(read(_file(_samples(subtype), "WAV", subtype), "a.wav"), "flac")
    with pytest.raises(UsageError, match="ogg would change the samples: choose from wav, flac"):
        write(read(_plain(bytes(100)), "a.wav"), "ogg")


def test_too_many_channels_are_refused() -> None:
    with pytest.raises(InputError, match="9 channels; expected 1 to 8"):
        read(_plain(bytes(90), channels=9), "a.wav")


def test_a_file_that_is_cut_short_is_refused() -> None:
    data = _file(_samples("PCM_16", 3000), "WAV", "PCM_16")
    with pytest.raises(InputError, match=r"a.wav: is cut short, 4956 bytes of 12000"):
        read(data[:5000], "a.wav")
    flac = _file(_samples("PCM_16", 30000), "FLAC", "PCM_16")
    with pytest.raises(InputError, match=r"a\.flac"):
        read(flac[: len(flac) // 2], "a.flac")


def test_headers_that_lie_allocate_nothing() -> None:
    flac = bytearray(_file(_samples("PCM_16"), "FLAC", "PCM_16"))
    flac[21] |= 15
    flac[22:26] = b"\xff" * 4  # 2**36 - 1 samples
    with pytest.raises(InputError, match=r"a\.flac"):
        read(bytes(flac), "a.flac", limits=Limits(max_bytes=2**20))


def test_the_budget_is_asked() -> None:
    data = _file(_samples("PCM_24", 1000), "FLAC", "PCM_24")
    with pytest.raises(InputError, match="max-bytes"):
        read(data, "a.flac", limits=Limits(max_bytes=7999))
    assert read(data, "a.flac", limits=Limits(max_bytes=8000)).values.nbytes == 8000


def test_longer_than_a_block() -> None:
    samples = _samples("PCM_16", 2**17, 1)
    assert np.array_equal(read(_file(samples, "WAV", "PCM_16"), "a.wav", limits=Limits(max_bytes=2**18)).values[0], samples)


@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_16"), ("WAVEX", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")])
def test_damage_is_one_clear_line_or_sound(container: str, subtype: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = _file(_samples("DOUBLE", 800, 1) if container == "OGG" else _samples(subtype, 800, 1), container, subtype)
    rng = np.random.default_rng(1)
    for cut in range(12, len(data), max(1, len(data) // 40)):
        _read_or_refuse(data[:cut])
    for _ in range(150):
        mutant = bytearray(data)
        for position in rng.integers(0, min(len(mutant), 200), 3):
            mutant[position] = rng.integers(256)
        _read_or_refuse(bytes(mutant))
    assert capfd.readouterr() == ("", "")


def _read_or_refuse(data: bytes) -> None:
    """Read and write again, or see one line with the file's name."""
    complaint = ""
    try:
        assert write(read(data, "a.dat", limits=Limits(max_bytes=2**22)))
    except InputError as error:
        complaint = str(error)
    assert not complaint or ("a.dat" in complaint and "\n" not in complaint and "0x" not in complaint)


@given(st.binary(max_size=60), st.sampled_from(["wav", "flac"]))
@settings(max_examples=100)
def test_damaged_metadata_is_refused_or_harmless(metadata: bytes, format: str) -> None:
    signal = Signal(np.zeros((1, 4, 1), np.int16), "audio", format, Scale(-32768, 1, 65536), 65535, metadata)
    with contextlib.suppress(InputError):
        assert len(write(signal)) >= 8


@pytest.mark.skipif(not SPEECH.is_dir(), reason="no ../shared/data")
def test_speech() -> None:
    path = min(SPEECH.glob("*.flac"), key=lambda path: path.stat().st_size)
    signal = read(path.read_bytes(), path.name)
    expected, _ = soundfile.read(path, dtype="int16", always_2d=True)
    assert np.array_equal(signal.values[0], expected)
    assert np.array_equal(read(write(signal), path.name).values, signal.values)
