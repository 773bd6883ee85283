"""`recommend --generate` from file to file, up to what is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compresskit.errors import UsageError
from compresskit.recommend.config import GenerateRequest
from compresskit.recommend.diffusion.pipeline import run
from compresskit.recommend.report import GenerateReport


def test_what_cannot_be_drawn_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    rows, output = tmp_path / "rows.npz", tmp_path / "drawn.npz"
    np.savez(rows, x=np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), y=np.arange(40) % 2)
    for plot, said in (("p.png", "these are others"), ("p.pdf", r"draws a \.png")):
        with pytest.raises(UsageError, match=said):
            run(GenerateRequest(str(rows), 4, str(output), epochs=1e9, plot=str(tmp_path / plot), threads=1))
    assert not output.exists()


@pytest.mark.parametrize("spelling", ["d.npz", "d.npz:images,labels"])
def test_the_data_are_never_overwritten(spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d.npz").write_bytes(b"data")
    with pytest.raises(UsageError, match=r"^d\.npz is an input, and inputs are never overwritten"):
        run(GenerateRequest(spelling, 4, "d.npz", force=True))
    assert Path("d.npz").read_bytes() == b"data"


def test_samples_and_their_picture_are_written(tmp_path: Path) -> None:
    images, output = tmp_path / "images.npz", tmp_path / "drawn.npz"
    x = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    np.savez(images, x=x, y=np.arange(40) % 2)
    report = run(GenerateRequest(str(images), 4, str(output), epochs=1.0, plot=str(tmp_path / "p.png"), threads=1, seed=3))
    assert GenerateReport.from_json(report.to_json()) == report
    assert (report.seed, report.threads, report.settings["epochs"]) == (3, 1, 1.0)
    assert [one.path for one in report.outputs] == [str(output), str(tmp_path / "p.png")]
    with np.load(output) as drawn:
        assert (drawn["x_train"].shape, drawn["x_train"].dtype, drawn["y_train"].shape) == ((4, 1, 8, 8), np.uint8, (4,))
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
