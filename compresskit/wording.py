"""Words for messages of one line, whatever the names and errors in them hold."""

from __future__ import annotations

from collections.abc import Iterable


def human(count: float) -> str:
    """`count` bytes in words: 2147483648 is '2 GiB'."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


def shown(name: str) -> str:
    """A name from a file, safe to print: line ends and terminal controls are escaped."""
    return name if name.isprintable() else repr(name)


def listed(names: Iterable[str], limit: int = 8) -> str:
    """The first names, separated by commas: 'a, b, ...'."""
    names = list(names)
    return ", ".join([*map(shown, names[:limit]), *(["..."] if len(names) > limit else [])])


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, cut where it is very long; its type where it says nothing."""
    return shown(next(iter(str(error).strip().splitlines()), ""))[:200] or type(error).__name__
