"""Latency tables come from other machines: whatever is in such a file, it is a table or one line."""

from __future__ import annotations

import json
import os
import random
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compresskit.errors import InputError
from compresskit.models.latency_file import parse_table, read_table
from compresskit.models.latency_operators import Operator
from compresskit.models.latency_table import Entry, Table, Whole

MUTANTS = int(os.environ.get("COMPRESSKIT_MUTANTS", "1000"))  # more by hand
SEED = int(os.environ.get("COMPRESSKIT_SEED", "0"))

CONV = Operator("conv", (1, 8, 8), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
TABLE = Table(
    "made up",
    "1.0",
    1,
    1,
    (Entry(CONV, (1, 8), (1, 8, 16), ((0.1, 0.2, 0.3), (0.2, 0.3, 0.4))), Entry(Operator("linear", (1,)), (8,), (10,), ((0.01,),))),
    {"0123456789abcdef": Whole(1.5, 1.25)},
)
DATA = TABLE.to_json().encode()


def changed(*path: str | int, to: Any) -> bytes:
    """The table with one value replaced."""
    body = json.loads(DATA)
    place = body
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return json.dumps(body).encode()


CORRUPT = {
    "nothing": b"",
    "no text": b"\xff\xfe\x00",
    "no JSON": b"{",
    "a list": b"[]",
    "depth": b"[" * 100_000,
    "another version": changed("schema_version", to=2),
    "version as a truth": changed("schema_version", to=True),
    "a field more": changed("surprise", to=1),
    "threads as text": changed("threads", to="1"),
    "fewer than no threads": changed("threads", to=-1),
    "many threads": changed("threads", to=4097),
    "vast threads": changed("threads", to=10**12),
    "no batch": changed("batch", to=0),
    "a large batch": changed("batch", to=4097),
    "a vast batch": changed("batch", to=10**1000),
    "no entries": changed("entries", to=None),
    "an entry twice": changed("entries", to=json.loads(DATA)["entries"][:1] * 2),
    "no widths": changed("entries", 0, "inputs", to=[]),
    "many widths": changed("entries", 1, to={**json.loads(DATA)["entries"][1], "inputs": [*range(1, 258)], "ms": [[0.1]] * 257}),
    "widths that fall": changed("entries", 0, "outputs", to=[1, 16, 8]),
    "a width of no channel": changed("entries", 0, "inputs", to=[0, 8]),
    "a vast width": changed("entries", 0, "inputs", to=[1, 10**300]),
    "half a channel": changed("entries", 0, "inputs", to=[0.5, 8]),
    "a row less": changed("entries", 0, "ms", to=[[0.1, 0.2, 0.3]]),
    "a ragged row": changed("entries", 0, "ms", 1, to=[0.1]),
    "a time below zero": changed("entries", 0, "ms", 0, 0, to=-1e-9),
    "no number": changed("entries", 0, "ms", 0, 0, to=float("nan")),
    "no end": changed("entries", 0, "ms", 0, 0, to=float("inf")),
    "a number beyond floats": DATA.replace(b"0.1", b"1" * 400, 1),
    "a number beyond integers": DATA.replace(b"0.1", b"1" * 10_000, 1),
    "an unknown operator": changed("entries", 0, "operator", "kind", to="\x1b[31m"),
    "an operator of text": changed("entries", 0, "operator", to="conv"),
    "a shape of text": changed("entries", 0, "operator", "shape", to=["8"]),
    "a model of no time": changed("models", "0123456789abcdef", "ms", to=0),
    "a model of a list": changed("models", "0123456789abcdef", to=[1, 2]),
}


@pytest.mark.parametrize("name", CORRUPT)
def test_a_corrupt_table_is_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "phone.json"
    path.write_bytes(CORRUPT[name])
    with pytest.raises(InputError) as caught:
        read_table(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: a corrupt latency table: ")
    assert message.isprintable()
    assert len(message) < 400


def test_the_table_itself_is_fine() -> None:
    assert parse_table(DATA, "phone.json") == TABLE


def test_mutants_are_tables_or_one_line(in_child: Callable[[Callable[[int], object]], tuple[int, str]]) -> None:
    def work(pipe: int) -> None:
        rng = random.Random(SEED)
        for _ in range(MUTANTS):
            mutant = bytearray(DATA)
            for _ in range(rng.choice((1, 1, 2, 5))):
                at = rng.randrange(len(mutant))
                mutant[at : at + rng.choice((0, 1, 1, 20))] = rng.choice((rng.randbytes(1), b"9" * 5, b"-", b"[", b"1e999", b""))
            try:
                table = parse_table(bytes(mutant), "phone.json")
                for entry in table.entries:
                    assert np.array(entry.ms).shape == (len(entry.inputs), len(entry.outputs))
            except InputError as error:
                if not str(error).isprintable():
                    os.write(pipe, f"SEVERAL LINES {error!r}\n".encode())
            except BaseException:
                os.write(pipe, f"ESCAPED {traceback.format_exc()}".encode())
        os.write(pipe, b"done")

    assert in_child(work) == (0, "done")
