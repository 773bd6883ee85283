"""Texts and their labels, for models that take token ids: a table of two columns, `text<TAB>label`; or two, `train.tsv,test.tsv`.

The words are those of the training file, samples held out from it included, so that the ids do not depend on which these are. A model
knows the ids of the file that it was trained on: prune it with the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compresskit.data.delimited import is_text
from compresskit.data.files import head
from compresskit.data.labelled import label_array, read_labelled
from compresskit.data.source import SOURCES, Pair, Raw, Request, Source
from compresskit.data.tokens import encode, number_words
from compresskit.errors import InputError


def _matches(request: Request) -> bool:
    files = 1 <= len(request.paths) <= 2 and all(path.is_file() for path in request.paths)
    return request.vocabulary is not None and files and all(is_text(head(path, 4096)) for path in request.paths)


def _read(request: Request) -> Raw:
    if len(request.input_shape) != 1:
        raise InputError(f"{request.text}: texts need a model that takes one row of token ids a text; this one takes {request.input_shape}")
    (length,) = request.input_shape
    tables = [_read_texts(path, length, request) for path in request.paths]
    numbers = number_words(tables[0][0], request.vocabulary or 0)
    train, *others = (Pair(np.stack([encode(text, numbers, length) for text in texts]), label_array(labels)) for texts, labels in tables)
    return Raw(train, test=others[0] if others else None)


def _read_texts(path: Path, length: int, request: Request) -> tuple[list[str], list[str]]:
    """The texts of a file and their labels; each takes of the budget what its `length` ids will, too."""
    rows = read_labelled(path, request.label_column)
    if len(rows.names) != 1:
        raise InputError(f"{path}: has {len(rows.names) + 1} columns; expected two, texts and their labels, as the model takes token ids")
    texts, labels = [], []
    for _, (text,), label in rows.samples:
        request.budget.take(8 * length + len(text) + len(label), str(path))
        texts.append(text)
        labels.append(label)
    return texts, labels


SOURCES.register("text")(Source(_matches, _read))
