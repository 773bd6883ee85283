"""NumPy's `.npz`, arrays in a zip archive: keys named after their role, or told as `FILE.npz:X,Y[,X_TEST,Y_TEST]`."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from compresskit.data.files import head, reading
from compresskit.data.limits import Budget
from compresskit.data.npy import read_npy
from compresskit.data.roles import Role, find_roles, raw_from_roles
from compresskit.data.source import SOURCES, Raw, Request, Source
from compresskit.errors import InputError
from compresskit.wording import listed, shown

_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")  # the second: an archive without members
_NAMED: tuple[Role, ...] = (("train", "x"), ("train", "y"), ("test", "x"), ("test", "y"))


def _matches(request: Request) -> bool:
    return request.file is not None and head(request.file).startswith(_MAGIC)


def _read(request: Request) -> Raw:
    path = request.paths[0]
    with reading(path), zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
        if not members:
            raise InputError(f"{path}: a zip archive without NumPy arrays; expected .npz")
        roles = _named_roles(request.names, members, path) if request.names else find_roles(members, str(path), _remedy(path))
        return raw_from_roles(roles, lambda key: _read_member(archive, members[key], f"{path}[{shown(key)}]", request.budget))


def _named_roles(names: tuple[str, ...], members: dict[str, str], path: Path) -> dict[Role, str]:
    if len(names) not in (2, 4):
        raise InputError(f"{path}: expected two or four keys behind the colon, got {len(names)}; {_remedy(path)}")
    for name in names:
        if name not in members:
            raise InputError(f"{path}: has no array {name!r}; it has {listed(members)}")
    return dict(zip(_NAMED, names, strict=False))


def _read_member(archive: zipfile.ZipFile, member: str, name: str, budget: Budget) -> np.ndarray:
    with reading(name), archive.open(member) as stream:
        return read_npy(stream, name, budget)


def _remedy(path: Path) -> str:
    return f"say which is which, as in --data {path.name}:IMAGES,LABELS or {path.name}:X,Y,X_TEST,Y_TEST"


SOURCES.register("npz")(Source(_matches, _read))
