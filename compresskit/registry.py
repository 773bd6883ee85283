"""The one registry: a decorator that gives a function or class a name under which users find it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from compresskit.errors import UsageError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Named things of one kind, in the order in which they registered themselves.

    >>> criteria: Registry[Callable[..., object]] = Registry("criterion")
    >>> @criteria.register("l1")
    ... def l1(x): ...
    >>> list(criteria)
    ['l1']
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its argument under `name`.

        Raises:
            ValueError: `name` is taken.
        """

        def file_under(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered already")
            self._entries[name] = entry
            return entry

        return file_under

    def __getitem__(self, name: str) -> T:
        """Look `name` up.

        Raises:
            UsageError: nothing is registered under `name`; the message lists the choices.
        """
        try:
            return self._entries[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._entries, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(f"unknown {self.kind} {name!r}: {hint}choose from {', '.join(self._entries)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
