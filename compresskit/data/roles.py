"""What arrays are for, told by their names: `x_train`, `test_labels`, `t10k-images-idx3-ubyte.gz`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from compresskit.data.files import head
from compresskit.data.limits import Budget
from compresskit.data.source import Pair, Raw, Request, Source
from compresskit.errors import InputError
from compresskit.wording import listed

_SIDES = {
    "x": ("x", "image", "images", "data", "feature", "features", "input", "inputs", "sample", "samples"),
    "y": ("y", "label", "labels", "target", "targets"),
}
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "t10k"),
}
_NOISE = re.compile(r"idx\d?|ubyte|npy|gz")

Role = tuple[str, str]
"""(split, side): ("train" | "validation" | "test", "x" | "y")."""


def split_of(word: str) -> str | None:
    """The split that a word names, if it names one: 'val' is 'validation'."""
    return next((split for split, words in _SPLITS.items() if word.lower() in words), None)


def role_of(name: str) -> Role | None:
    """The role of a named array; None when any part of its name is unknown. No split means train.

    >>> role_of("train-images-idx3-ubyte.gz"), role_of("X_val"), role_of("x_mean")
    (('train', 'x'), ('validation', 'x'), None)
    """
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word and not _NOISE.fullmatch(word)]
    sides = [side for word in words for side, known in _SIDES.items() if word in known]
    splits = [split for word in words if (split := split_of(word))]
    if len(sides) != 1 or len(splits) > 1 or len(words) != len(sides) + len(splits):
        return None
    return (splits[0] if splits else "train", sides[0])


def find_roles(names: Iterable[str], where: str, remedy: str) -> dict[Role, str]:
    """Which name plays which role; names without a role are left out.

    Raises:
        InputError: two names for one role, one half of a pair missing, or no training pair.
    """
    names = list(names)
    roles: dict[Role, str] = {}
    for name in names:
        role = role_of(name)
        if role in roles:
            raise InputError(f"{where}: both {roles[role]!r} and {name!r} could be the {role[0]} {role[1]}; {remedy}")
        if role:
            roles[role] = name
    for split, side in roles:
        other = "y" if side == "x" else "x"
        if (split, other) not in roles:
            raise InputError(f"{where}: has {roles[split, side]!r} but no {split} {other}; {remedy}")
    if ("train", "x") not in roles:
        raise InputError(f"{where}: found no training samples and labels among {listed(names) or 'nothing'}; {remedy}")
    return roles


def raw_from_roles(roles: Mapping[Role, str], load: Callable[[str], np.ndarray]) -> Raw:
    """Load every array that has a role."""
    pairs = {split: Pair(load(roles[split, "x"]), load(roles[split, "y"])) for split, side in roles if side == "x"}
    return Raw(pairs["train"], pairs.get("validation"), pairs.get("test"))


def array_files(request: Request) -> dict[Role, Path]:
    """The array files that a request names: a pair `X,Y`, or those of a folder that are named after their role."""
    if len(request.paths) == 2:
        return {("train", "x"): request.paths[0], ("train", "y"): request.paths[1]}
    if request.folder is None:
        return {}
    return {role: path for path in sorted(request.folder.iterdir()) if path.is_file() and (role := role_of(path.name))}


def array_source(is_start: Callable[[bytes], bool], read: Callable[[Path, Budget], np.ndarray]) -> Source:
    """The source of one kind of file that holds one array: a pair `X,Y` of them, or a folder where they are named after their role.

    Args:
        is_start: whether a file that begins with these bytes is of the kind.
        read: reads one file; raises InputError.
    """

    def is_array(path: Path) -> bool:
        return path.is_file() and is_start(head(path))

    def matches(request: Request) -> bool:
        if request.file and is_array(request.file):
            raise InputError(f"{request.file}: is samples or labels alone; give both (--data X,Y) or their folder")
        return any(map(is_array, array_files(request).values()))

    return Source(matches, lambda request: _read_array_files(request, lambda path: read(path, request.budget)))


def _read_array_files(request: Request, read: Callable[[Path], np.ndarray]) -> Raw:
    if len(request.paths) == 2:
        return Raw(Pair(read(request.paths[0]), read(request.paths[1])))
    folder = request.paths[0]
    names = [path.name for path in sorted(folder.iterdir()) if path.is_file()]
    roles = find_roles(names, str(folder), "name the files x_train, y_train, x_test, y_test")
    return raw_from_roles(roles, lambda name: read(folder / name))
