from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compresskit.codec import calibrate as calibration
from compresskit.codec import learnprior, training
from compresskit.codec.base import save_base
from compresskit.codec.config import DecodeRequest, EncodeConfig, EncodeRequest, TrainBaseRequest
from compresskit.codec.decoding import decode
from compresskit.codec.kinds import KINDS
from compresskit.codec.modalities import read
from compresskit.codec.pipeline import encode
from compresskit.codec.reports import TrainBaseReport
from compresskit.codec.shelf import named
from compresskit.codec.training import LEAST_BLOCK, blocks_of, crops, train_base
from compresskit.errors import InputError, UsageError
from compresskit.progress import Silent


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SAMPLE", 128)
    monkeypatch.setattr(calibration, "FITTED", 128)
    monkeypatch.setattr(learnprior, "STEPS", 10)
    monkeypatch.setattr(training, "CHECK_PATCHES", 8)


def test_a_base_network_from_the_users_own_files(tmp_path: Path, quick: None, smooth_samples: Callable[[tuple[int, ...]], np.ndarray]) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray((255 * smooth_samples((40, 50))).astype(np.uint8)).save(folder / "a.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "too_small.png")
    (folder / "notes.txt").write_text("no picture")
    output = tmp_path / "mine.base.safetensors"
    request = TrainBaseRequest((str(folder),), "gray", str(output), steps=3, latents=6, width=8, depth=2, threads=1)
    report = train_base(request)
    base = named(str(output))
    assert (base.name, base.axes, base.channels, base.latents, base.edges) == ("mine", 2, 1, 6, KINDS["gray"].edges)
    assert output.read_bytes() == save_base(replace(base, stored=b""))
    assert (report.outputs[0].bytes, report.settings["width"], report.seed) == (output.stat().st_size, 8, 0)
    assert TrainBaseReport.from_json(report.to_json()) == report
    with pytest.raises(UsageError, match="exists: use --force"):
        train_base(request)


class Notes(Silent):
    """Keeps what is worth a log line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two pictures, and half of a third."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.random.default_rng(0).integers(256, size=(40, 50), dtype=np.uint8)).save(folder / name)
    (folder / "half.png").write_bytes((folder / "a.png").read_bytes()[:500])
    return folder


@pytest.mark.parametrize("name", ["a.png", "half.png"])
@pytest.mark.parametrize("role", ["output", "checkpoint"])
def test_no_file_of_a_folder_that_is_trained_on_is_overwritten(pictures: Path, role: str, name: str) -> None:
    before = {file: file.read_bytes() for file in pictures.iterdir()}
    request = TrainBaseRequest((str(pictures),), "gray", str(pictures / "base"), force=True, threads=1)
    with pytest.raises(UsageError, match=f"{name} is an input, and inputs are never overwritten"):
        train_base(replace(request, **{role: str(pictures / name)}))  # type: ignore[arg-type]
    assert {file: file.read_bytes() for file in pictures.iterdir()} == before


def test_a_base_network_in_the_folder_that_it_is_trained_on_can_be_replaced(pictures: Path, quick: None) -> None:
    output = pictures / "mine.base.safetensors"
    request = TrainBaseRequest((str(pictures),), "gray", str(output), steps=1, latents=4, width=8, depth=2, force=True, threads=1)
    train_base(request)
    first = output.read_bytes()
    train_base(replace(request, seed=1))
    assert output.read_bytes() != first


def test_data_of_a_folder_that_cannot_be_read_are_told_of(pictures: Path, quick: None) -> None:
    (pictures / "notes.txt").write_text("no picture")
    (pictures / "empty.wav").touch()
    output, notes = str(pictures / "base"), Notes()
    Image.fromarray(np.zeros((900, 900), np.uint8)).save(pictures / "large", format="png")
    train_base(TrainBaseRequest((str(pictures),), "gray", output, steps=1, latents=4, width=8, depth=2, max_bytes=9000, threads=1), notes)
    names, reasons = zip(*(line.split(" is skipped: ") for line in notes.lines), strict=True)
    assert names == tuple(str(pictures / name) for name in ("empty.wav", "half.png", "large"))
    assert reasons[0].startswith("is empty")
    assert "raise --max-bytes" in reasons[2]
    assert not any("\n" in line for line in notes.lines)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"modality": "smell"}, "unknown modality 'smell': choose from image, gray"),
        ({"latents": 5000}, r"--latents 5000 is out of range: give 1 to 256"),
        ({"width": 0}, "--width 0 is out of range: give 1 to 4096"),
        ({"steps": 0}, "--steps 0 is out of range: give 1 or more"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    request = TrainBaseRequest((str(tmp_path),), "gray", str(tmp_path / "x"), threads=1)
    with pytest.raises(UsageError, match=reason):
        train_base(replace(request, **change))  # type: ignore[arg-type]


def test_files_of_the_wrong_kind_are_no_training_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file to train on: expected gray data of at least 16x16 samples"):
        train_base(TrainBaseRequest((str(tmp_path),), "gray", str(tmp_path / "x"), threads=1))


def globe(path: Path, first: int, last: int, *, rows: int = 12, columns: int = 24, west: float = 0, east: float = 360) -> Path:
    """Months of a season that goes around, as a climate file."""
    lat, lon = 90 - 180 * (np.arange(rows) + 0.5) / rows, west + (east - west) * np.arange(columns) / columns
    season = np.sin(2 * np.pi * np.arange(first, last) / 12)[:, None, None]
    shape = np.cos(np.radians(lat))[:, None] + 0.1 * np.sin(np.radians(lon))
    np.savez(path, t=(280 + 20 * shape + 8 * season * np.sin(np.radians(lat))[:, None]).astype(np.float32), lat=lat, lon=lon)
    return path


def test_a_base_network_for_the_globe_from_the_users_own_archive(tmp_path: Path, quick: None) -> None:
    early, late = globe(tmp_path / "early.npz", 0, 24), globe(tmp_path / "late.npz", 24, 30)
    base, stream = str(tmp_path / "mine.base.safetensors"), str(tmp_path / "late.coinpp")
    train_base(TrainBaseRequest((str(early),), "globe", base, variable="t", steps=30, latents=4, width=8, depth=2, threads=1))
    assert (named(base).geometry, named(base).edges, named(base).channels) == ("sphere", KINDS["globe"].edges, 1)
    encode(EncodeRequest((str(late),), stream, EncodeConfig(method="coin++", base=base, max_error=0.5, verify=True), threads=1))
    decode(DecodeRequest(stream, str(tmp_path / "back.npz"), base=base, threads=1))
    with np.load(late) as before, np.load(tmp_path / "back.npz") as after:
        np.testing.assert_allclose(after["t"], before["t"], atol=0.5)


def test_the_globe_is_learned_as_finely_as_the_data_are_within_limits(tmp_path: Path) -> None:
    kind = KINDS["globe"]
    signals = [read(globe(tmp_path / "t.npz", 0, 2, rows=rows, columns=columns).read_bytes(), "t.npz") for rows, columns in ((12, 24), (60, 250))]
    assert kind.for_data(signals[:1]).edges == kind.edges
    assert kind.for_data(signals).edges == (60, 192)
    assert kind.for_data(signals).frames(signals[0]).shape == (2, 60, 192, 1)
    assert KINDS["volume"].for_data(signals) == KINDS["volume"]


def test_a_region_is_no_globe(tmp_path: Path) -> None:
    part = globe(tmp_path / "part.npz", 0, 4, rows=60, columns=100, east=90)
    with pytest.raises(InputError, match="no file to train on: expected globe fields all around the globe"):
        train_base(TrainBaseRequest((str(part),), "globe", str(tmp_path / "x"), threads=1))


@pytest.mark.parametrize("name", KINDS)
def test_a_patch_has_a_sample_at_each_of_its_coordinates(name: str, tmp_path: Path, npy_bytes: Callable[[np.ndarray], bytes]) -> None:
    kind, file = KINDS[name], tmp_path / "x"
    shape = tuple(edge + 3 for edge in kind.edges)
    if name == "globe":
        file = globe(tmp_path / "x.npz", 0, 3)
    elif name == "image":
        Image.fromarray(np.random.default_rng(0).integers(256, size=(*shape, 3), dtype=np.uint8)).save(file, format="png")
    else:
        file.write_bytes(npy_bytes(np.random.default_rng(0).random(shape)))
    signal = read(file.read_bytes(), file.name)
    assert kind.suits(signal)
    drawn = crops([kind.frames(signal)], kind.edges)(5, torch.Generator().manual_seed(0))
    assert drawn.shape == (5, len(kind.coordinates()), kind.channels)
    assert 0 <= drawn.min() < drawn.max() <= 1


def test_sources_are_drawn_as_often_as_they_weigh() -> None:
    sources = [torch.full((2, 9, 9, 1), value) for value in (0.0, 1.0)] + [torch.full((2, 3, 3, 1), 2.0)]
    drawn = crops(sources, (3, 3), (1, 3, 0))(4000, torch.Generator().manual_seed(0))[:, 0, 0]
    assert abs(drawn.mean().item() - 0.75) < 0.03
    by_samples = crops(sources, (3, 3))(4000, torch.Generator().manual_seed(0))[:, 0, 0]
    assert abs((by_samples == 2).float().mean().item() - 9 / 171) < 0.02


def test_neighbours_are_learned_from_as_many_patches_as_there_is_room_for() -> None:
    kind = KINDS["gray"]
    edge, generator = kind.edges[0], torch.Generator().manual_seed(0)
    small, fitting, large = (torch.full((1, count * edge, count * edge, 1), float(count)) for count in (2, LEAST_BLOCK, kind.block))
    for sources, side in (([small, fitting, large], kind.block), ([small, fitting], LEAST_BLOCK), ([small], 1)):
        draw, counts = blocks_of(sources, kind)
        blocks = draw(20, generator)
        assert (counts, blocks.shape) == ((side, side), (20, (side * edge) ** 2, 1))
        assert (blocks >= side).all()
    globe = KINDS["globe"]
    draw, counts = blocks_of([torch.zeros(3, *globe.edges, 1)], globe)
    assert (counts, draw(2, generator).shape) == ((1, 1), (2, len(globe.coordinates()), 1))
