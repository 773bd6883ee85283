"""Streams of every released version decode to the samples that they decoded to then."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from compresskit.codec.decoding import unpacked_signals
from compresskit.codec.encoder import digest_of

FOLDER = Path(__file__).parent
INDEX = json.loads((FOLDER / "index.json").read_text())


def test_every_stream_is_listed() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.coinpp")) == sorted(INDEX)


@pytest.mark.parametrize("name", INDEX)
def test_streams_decode_to_their_samples(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == INDEX[name]["stream"]
    assert digest_of([signal.values for signal in unpacked_signals(data, None)]).hex() == INDEX[name]["samples"]
