"""Base networks that are at hand: those that ship, and one that the user names.

Those of earlier releases ship too, in the folder `former`: nothing new is encoded with them, but streams that were must decode for ever.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import resources

from compresskit.codec.base import Base, load_base
from compresskit.codec.planes import COLOUR
from compresskit.codec.stream import BASE_BYTES
from compresskit.data.files import read_bytes
from compresskit.errors import InputError

SUFFIX = ".base.safetensors"


CURRENT, FORMER = "bases", "bases/former"
"""Folders of those that are encoded with, and of those that are only decoded with."""


@lru_cache(maxsize=2)
def _files(folder: str) -> dict[str, bytes]:
    """The files in one of the folders that ship, by the name of their base network."""
    place = resources.files("compresskit.codec").joinpath(*folder.split("/"))
    if not place.is_dir():
        return {}
    entries = sorted((entry for entry in place.iterdir() if entry.name.endswith(SUFFIX)), key=lambda entry: entry.name)
    return {entry.name.removesuffix(SUFFIX): entry.read_bytes() for entry in entries}


@lru_cache(maxsize=8)
def shipped(name: str, folder: str = CURRENT) -> Base:
    """The base network of that name in one of the folders that ship."""
    return load_base(_files(folder)[name], name)


def suited(*, sphere: bool, axes: int, channels: int) -> Base | None:
    """The base network that ships for signals on the globe or on a grid of `axes` axes; None where there is none.

    One of three channels serves colour, one of a single channel everything else; where there is none of a single channel, the other repeats it.
    """
    wanted = COLOUR if channels >= COLOUR else 1
    fitting = [base for base in map(shipped, _files(CURRENT)) if (base.geometry == "sphere") == sphere and base.axes == axes]
    return min(fitting, key=lambda base: base.channels != wanted, default=None)


def named(path: str) -> Base:
    """The base network in a file.

    Raises:
        InputError: it cannot be read, or is none.
    """
    return load_base(read_bytes(path), path)


def find(prefix: bytes, extra: Base | None = None) -> Base:
    """The base network whose SHA-256 begins with `prefix`.

    Args:
        prefix: as a stream's header names it.
        extra: the one that the user gave, or that the stream embeds.

    Raises:
        InputError: it is neither `extra` nor one that ships.
    """
    if extra is not None and extra.digest[:BASE_BYTES] == prefix:
        return extra
    for folder in (CURRENT, FORMER):
        for name, data in _files(folder).items():
            if hashlib.sha256(data).digest()[:BASE_BYTES] == prefix:
                return shipped(name, folder)
    given = f"; {extra.name} is {extra.digest[:BASE_BYTES].hex()}" if extra is not None else ""
    raise InputError(f"the stream needs the base network {prefix.hex()}, which does not ship with this release{given}: give its file with --base")
