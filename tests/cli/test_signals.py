"""The reports of `encode` and `decode` as a person reads them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable
from typing import Any

import pytest
from rich.console import RenderableType

from compresskit.cli.console import Console
from compresskit.cli.signals import decode_tables, encode_tables, info_tables, training_tables
from compresskit.codec.reports import DecodeReport, Distortion, EncodeReport, Remains, StreamInfo, TrainBaseReport


def _rendered(tables: Iterable[RenderableType]) -> str:
    console = Console(stdin=io.BytesIO(), stdout=io.StringIO(), stderr=io.StringIO(), environ={})
    console.show(*tables)
    assert isinstance(console.stdout, io.StringIO)
    return "\n".join(line.rstrip() for line in console.stdout.getvalue().splitlines()) + "\n"


def test_encoding(encode_report: EncodeReport) -> None:
    assert _rendered(encode_tables(encode_report, verbose=False)) == ENCODED


ENCODED = """\
item   name          kind                              shape       PSNR   max error
───────────────────────────────────────────────────────────────────────────────────
0      scan.nii      volume nii int16          91 x 109 x 91   38.25 dB        21.5
1      bold.nii.gz   volume nii.gz float32   7 x 16 x 16 x 8      exact           0
2 items, PSNR 38.25 dB on average and 38.25 dB at least, 1 exact

COIN++ with base network volume (310 kB), patches of edge 16, 5 bits a latent
903 kB → 10 kB, ratio 90.3; the samples alone, deflated: 400 kB
rate: 0.08724 bits a point (2.792 with the base network), 916,965 points
verified: decoded again, and compared
wrote set.coinpp (coinpp, 10 kB)
2 threads, 12.8 s
"""


def test_decoding(decode_report: DecodeReport) -> None:
    assert _rendered(decode_tables(decode_report, verbose=False)) == DECODED


DECODED = """\
item   name          kind                              shape
────────────────────────────────────────────────────────────
0      scan.nii      volume nii int16          91 x 109 x 91
1      bold.nii.gz   volume nii.gz float32   7 x 16 x 16 x 8
2 items

COIN++ with base network volume (310 kB), patches of edge 16, 5 bits a latent
checked: the samples have the SHA-256 that encode noted
wrote out/scan.nii (nii, 902.6 kB)
wrote out/bold.nii.gz (nii.gz, 352 B)
2 threads, 1.2 s
"""


def test_info(stream: StreamInfo) -> None:
    bare = tuple(dataclasses.replace(item, distortion=None) for item in stream.items)
    assert _rendered(info_tables(dataclasses.replace(stream, items=bare), verbose=False)) == INFO


INFO = """\
item   name          kind                              shape
────────────────────────────────────────────────────────────
0      scan.nii      volume nii int16          91 x 109 x 91
1      bold.nii.gz   volume nii.gz float32   7 x 16 x 16 x 8
2 items

section    bytes    share
─────────────────────────
header        30     0.3%
items        400     4.0%
chunks     9,570    95.7%
all       10,000   100.0%

COIN++ with base network volume (310 kB), patches of edge 16, 5 bits a latent
rate: 0.08724 bits a point (2.792 with the base network), 916,965 points
"""


def test_training(training_report: TrainBaseReport) -> None:
    assert _rendered(training_tables(training_report, verbose=False)) == TRAINED
    full = _rendered(training_tables(training_report, verbose=True)).splitlines()
    assert [line.split()[0] for line in full[2:27]] == [f"{int(step):,}" for step, _ in training_report.curve]


TRAINED = """\
step    PSNR of the training patches
────────────────────────────────────
100                         20.10 dB
400                         20.40 dB
700                         20.70 dB
1,000                       21.00 dB
1,300                       21.30 dB
1,600                       21.60 dB
1,900                       21.90 dB
2,200                       22.20 dB
2,500                       22.50 dB

on new patches: 22.25 dB
wrote brain.base.safetensors (safetensors, 310 kB)
2 threads, 61.5 s
"""


def test_many_items_are_summed_up(encode_report: EncodeReport) -> None:
    first = encode_report.stream.items[0]
    items = tuple(
        dataclasses.replace(first, name=f"scan{index}.nii", distortion=Distortion(30.0 + index if index else None, 255.0, 3.0, 20.0))
        for index in range(25)
    )
    report = dataclasses.replace(encode_report, stream=dataclasses.replace(encode_report.stream, items=items))
    brief, full = (_rendered(encode_tables(report, verbose=verbose)) for verbose in (False, True))
    assert "scan9.nii" in brief
    assert "scan10.nii" not in brief
    assert "\n… 15 more (-v)\n" in brief
    assert "\n25 items, PSNR 42.50 dB on average and 31.00 dB at least, 1 exact\n" in brief
    assert all(item.name in full for item in items)


def test_a_name_cannot_move_the_cursor(decode_report: DecodeReport) -> None:
    item = dataclasses.replace(decode_report.stream.items[0], name="a\x1b[2Jb\nc.nii")
    report = dataclasses.replace(decode_report, stream=dataclasses.replace(decode_report.stream, items=(item,), base="\x1b[31m"))
    lines = _rendered(decode_tables(report, verbose=False)).splitlines()
    assert lines[2].startswith("a\\x1b[2Jb c.nii   volume nii int16 ")
    assert all(line.isprintable() for line in lines)


def test_the_figures_are_those_of_the_content(encode_report: EncodeReport) -> None:
    stream = encode_report.stream
    sound = dataclasses.replace(stream.items[0], modality="audio", distortion=Distortion(41.0, 2.0, 0.01, 0.1, snr=12.345))
    globe = dataclasses.replace(stream.items[0], modality="climate", distortion=Distortion(41.0, 60.0, 0.5, 2.5, weighted_rmse=0.4321))
    for item, heading, figure in ((sound, "SNR", "12.35 dB"), (globe, "area-weighted RMSE", "0.4321")):
        table = _rendered(encode_tables(dataclasses.replace(encode_report, stream=dataclasses.replace(stream, items=(item,))), verbose=False))
        assert table.splitlines()[0].split("  ")[-2].strip() == heading
        assert figure in table.splitlines()[2]
        assert "items" not in table


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"patch": (16, 16, 8)}, "COIN++ with base network volume (310 kB), patches of 16 x 16 x 8, 5 bits a latent"),
        ({"patch": ()}, "COIN++ with base network volume (310 kB), whole signals, 5 bits a latent"),
        ({"progressive": True}, "COIN++ with base network volume (310 kB), patches of edge 16, 5 bits a latent, coarse latents first"),
        ({"base": "1f2e3d4c", "base_bytes": 0}, "COIN++ with base network 1f2e3d4c, patches of edge 16, 5 bits a latent"),
        ({"method": "coin", "base": None, "patch": (), "bits": 1}, "COIN, whole signals, 1 bit a weight"),
        ({"method": "plain", "base": None}, "deflated samples, no network"),
        ({"method": "coin", "base": None, "guard": "lossless"}, "COIN, patches of edge 16, 5 bits a weight, every sample restored"),
        (
            {"method": "plain", "base": None, "guard": "max-error", "tolerance": 0.5},
            "deflated samples, no network, every sample to within 0.5",
        ),
        ({"bpp_with_base": 0.08724}, "rate: 0.08724 bits a point, 916,965 points"),
        (
            {"sections": {"base": 7_500, "chunks": 2_500}, "bpp_with_base": 0.08724},
            "rate: 0.08724 bits a point (0.02181 without the base network in it), 916,965 points",
        ),
        ({"kbps": 19.876}, "rate: 19.88 kbit/s, 0.08724 bits a point (2.792 with the base network), 916,965 points"),
    ],
)
def test_how_a_stream_was_coded(stream: StreamInfo, changes: dict[str, Any], line: str) -> None:
    assert line in _rendered(info_tables(dataclasses.replace(stream, **changes), verbose=False)).splitlines()


def test_samples_without_a_digest_were_not_compared(decode_report: DecodeReport) -> None:
    lines = _rendered(decode_tables(dataclasses.replace(decode_report, verified=False), verbose=False)).splitlines()
    assert "checked: the checksums of the stream" in lines


def test_nothing_vouches_for_a_stream_that_was_cut_off(decode_report: DecodeReport) -> None:
    report = dataclasses.replace(decode_report, verified=False, remains=Remains(0.4321))
    lines = _rendered(decode_tables(report, verbose=False)).splitlines()
    assert "checked: nothing, as the stream was cut off; it has 43.2% of its latents" in lines
    assert DecodeReport.from_json(report.to_json()) == report


@pytest.mark.parametrize(("dtype", "word"), [("|u1", "uint8"), ("<i2", "int16"), ("<f8", "float64"), ("|b1", "bool")])
def test_an_item_without_a_name_is_its_kind(decode_report: DecodeReport, dtype: str, word: str) -> None:
    item = dataclasses.replace(decode_report.stream.items[0], name="", dtype=dtype)
    heading, _, row, *_ = _rendered(
        decode_tables(dataclasses.replace(decode_report, stream=dataclasses.replace(decode_report.stream, items=(item,))), verbose=False)
    ).splitlines()
    assert (heading.split(), row.split()) == (["kind", "shape"], ["volume", "nii", word, "91", "x", "109", "x", "91"])
