"""`encode` and `decode` with the library that they are for: files, pipes and exit codes."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compresskit.codec.reports import DecodeReport, EncodeReport

Invoke = Callable[..., Any]
PROGRAM = [sys.executable, "-m", "compresskit.cli"]
FAST = ("--method", "coin", "--steps", "2", "-T", "1")


@pytest.fixture
def photo(invoke: Invoke) -> Path:
    """A small picture in the working folder."""
    rows, columns = np.mgrid[:48, :64]
    Image.fromarray(np.stack([5 * rows, 4 * columns, 2 * (rows + columns)], axis=-1).astype(np.uint8)).save("photo.png")
    return Path("photo.png")


def _pixels(file: Path | bytes) -> np.ndarray:
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
        return np.asarray(image)


def test_there_and_back(invoke: Invoke, photo: Path) -> None:
    done = invoke("encode", "photo.png", *FAST, "--lossless", "--verify", "--json")
    report = EncodeReport.from_json(done.out)
    assert (done.code, report.verified, report.stream.bytes) == (0, True, Path("photo.coinpp").stat().st_size)
    done = invoke("decode", "--info", "photo.coinpp", "--json")
    info = DecodeReport.from_json(done.out).stream
    assert (done.code, info.guard, sum(info.sections.values())) == (0, "lossless", report.stream.bytes)
    assert invoke("decode", "photo.coinpp").code == 0
    np.testing.assert_array_equal(_pixels(Path("photo.decoded.png")), _pixels(photo))
    assert sorted(path.name for path in Path().iterdir()) == ["photo.coinpp", "photo.decoded.png", "photo.png"]


def test_through_pipes(photo: Path) -> None:
    encoded = subprocess.run([*PROGRAM, "encode", "-", *FAST, "--lossless", "-o", "-"], input=photo.read_bytes(), capture_output=True)
    assert (encoded.returncode, b"PSNR" in encoded.stderr) == (0, True)
    decoded = subprocess.run([*PROGRAM, "decode", "-", "-q", "-T", "1"], input=encoded.stdout, capture_output=True)
    assert (decoded.returncode, decoded.stderr) == (0, b"")
    np.testing.assert_array_equal(_pixels(decoded.stdout), _pixels(photo))


def test_a_download_that_was_cut_off(invoke: Invoke, photo: Path) -> None:
    assert invoke("encode", "photo.png", "--progressive", "--steps", "2", "--effort", "1", "--verify", "-T", "1").code == 0
    whole = Path("photo.coinpp").read_bytes()
    Path("photo.coinpp").write_bytes(whole[: len(whole) // 2])
    done = invoke("decode", "photo.coinpp", "-T", "1")
    assert (done.code, "decode what is there with --partial" in done.err) == (3, True)
    done = invoke("decode", "photo.coinpp", "--partial", "--json", "-T", "1")
    remains = DecodeReport.from_json(done.out).remains
    assert remains is not None
    assert (done.code, 0 < remains.latents < 1, remains.guarded) == (0, True, None)
    assert done.err.startswith(f"compresskit: warning: the stream was cut off: {remains.latents:.1%} of its latents are there")
    assert _pixels(Path("photo.decoded.png")).shape == _pixels(photo).shape


def test_an_archive_into_a_folder(invoke: Invoke, photo: Path) -> None:
    Path("other.png").write_bytes(photo.read_bytes())
    assert invoke("encode", "photo.png", "other.png", *FAST, "-o", "set.coinpp").code == 0
    assert invoke("decode", "set.coinpp", "-o", "out/", "--item", "1").code == 0
    assert [path.name for path in Path("out").iterdir()] == ["other.png"]


def test_a_target_out_of_reach_is_exit_4_with_the_best_written(invoke: Invoke, photo: Path) -> None:
    done = invoke("encode", "photo.png", *FAST, "--psnr", "99", "-q")
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)
    assert "--psnr 99 is out of reach" in done.err
    assert Path("photo.coinpp").exists()


def test_a_failed_verification_is_exit_5_and_leaves_no_output(invoke: Invoke, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from compresskit.codec import pipeline

    true = pipeline.unpacked_signals
    monkeypatch.setattr(pipeline, "unpacked_signals", lambda *request: _spoiled(true(*request)))
    done = invoke("encode", "photo.png", *FAST, "--verify", "-q")
    assert (done.code, done.out, done.err.count("\n")) == (5, "", 1)
    assert list(Path().iterdir()) == [photo]


def _spoiled(signals: Any) -> Any:
    for signal in signals:
        signal.values[..., 0] ^= 1
        yield signal


@pytest.mark.parametrize(
    ("command", "name", "content", "words"),
    [
        ("encode", "absent.nii", None, "absent.nii"),
        ("encode", "empty.nii", b"", "empty.nii: is empty"),
        ("encode", "text.nii", b"hello world\n" * 50, "text.nii"),
        ("encode", "half.png", b"\x89PNG\r\n\x1a\n" + bytes(20), "half.png"),
        ("decode", "absent.coinpp", None, "absent.coinpp"),
        ("decode", "empty.coinpp", b"", "bitstream"),
        ("decode", "text.coinpp", b"hello world\n" * 50, "bitstream"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_exit_3_and_one_line(invoke: Invoke, command: str, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    before = sorted(Path().iterdir())
    for arguments in ([name], ["--info", name]) if command == "decode" else ([name],):
        done = invoke(command, *arguments)
        assert (done.code, done.out, done.err.count("\n")) == (3, "", 1), done.err
        assert words in done.err
    assert sorted(Path().iterdir()) == before


def test_a_drawing_beside_the_stream(invoke: Invoke, photo: Path) -> None:
    assert invoke("encode", "photo.png", *FAST, "--preview", "p.png").code == 0
    assert _pixels(Path("p.png")).ndim == 3
