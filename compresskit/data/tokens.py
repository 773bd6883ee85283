"""Texts as token ids: the words that a training set has, numbered by how often it has them.

id 0: padding    id 1: any other word    id 2, 3, ...: words, the most frequent first
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from torch import nn

from compresskit.models.graph import ModelGraph, leaf

PADDING, UNKNOWN = 0, 1
_FIRST = 2  # id of the most frequent word
_RARE = 2  # a word that occurs less often teaches nothing
_WORD = re.compile(r"[\w']+|[^\w\s]")


def vocabulary_size(graph: ModelGraph) -> int | None:
    """How many token ids the embedding of the first input knows; None where that input holds numbers."""
    if graph.inputs[0].dtype.is_floating_point:
        return None
    (first, *_) = graph.module.graph.find_nodes(op="placeholder")
    readers = [leaf(graph, user) for user in first.users if user.op == "call_module"]
    return min((reader.num_embeddings for reader in readers if isinstance(reader, nn.Embedding)), default=None)


def split_words(text: str) -> Iterator[str]:
    """Words in lower case, and each other character by itself.

    >>> list(split_words("Don't panic!"))
    ["don't", 'panic', '!']
    """
    return (match.group() for match in _WORD.finditer(text.lower()))


def number_words(texts: Iterable[str], size: int) -> dict[str, int]:
    """The ids, below `size`, of the words that `texts` have more than once; of equally frequent ones in alphabetical order."""
    counts = Counter(word for text in texts for word in split_words(text))
    ranked = sorted((word for word, count in counts.items() if count >= _RARE), key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate(ranked[: max(0, size - _FIRST)], _FIRST)}


def encode(text: str, numbers: Mapping[str, int], length: int) -> np.ndarray:
    """(length,) int64: the ids of the first `length` words, padded behind."""
    ids = [numbers.get(word, UNKNOWN) for word in split_words(text)][:length]
    return np.array(ids + [PADDING] * (length - len(ids)), dtype=np.int64)
