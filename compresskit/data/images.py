"""Image files in folders: `root/CLASS/*.png`, or `root/train|val|test/CLASS/*.png`.

Images are stretched to the model's input (bilinear, antialiased) and converted to its channel count.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from compresskit.data.layout import image_size
from compresskit.data.limits import Budget
from compresskit.data.roles import array_files, split_of
from compresskit.data.source import SOURCES, Pair, Raw, Request, Source
from compresskit.errors import CompresskitError, InputError
from compresskit.progress import Progress
from compresskit.wording import first_line

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # not EPS, which starts ghostscript
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def read_image(path: Path, channels: int, height: int, width: int, budget: Budget) -> np.ndarray:
    """One image as (height, width, channels) uint8.

    Raises:
        InputError: unreadable, damaged, or over the limit on pixels.
    """
    with open_image(path, str(path), budget, _FORMATS) as image:
        pixels = _eight_bit(image).convert(_MODES[channels]).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(pixels).reshape(height, width, channels)


@contextlib.contextmanager
def open_image(source: Path | BinaryIO, what: str, budget: Budget, formats: tuple[str, ...]) -> Iterator[ImageFile]:
    """Open an image of one of Pillow's `formats`, to be decoded inside the `with` block.

    Raises:
        InputError: over the limit on pixels; or unreadable, which includes any exception of Pillow's in the block.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's on size: the limit below is ours, and an error
        try:
            with Image.open(source, formats=formats) as image:
                budget.check_pixels(*image.size, what)
                with _stderr_closed() if image.format == "TIFF" else contextlib.nullcontext():
                    yield image
        except CompresskitError:
            raise
        except UnidentifiedImageError:  # its words are those of `source`, which may be an address in memory
            raise InputError(f"{what}: not a readable image; expected {' or '.join(formats)}") from None
        except Image.DecompressionBombError:
            raise InputError(f"{what}: far over {budget.limits.max_pixels} pixels; the limit is --max-pixels") from None
        except Exception as error:  # damaged files make Pillow's decoders raise over a dozen kinds
            raise InputError(f"{what}: not a readable image ({first_line(error)})") from error


@contextlib.contextmanager
def _stderr_closed() -> Iterator[None]:
    """Send file descriptor 2 nowhere: libtiff reports damage there, in lines of its own beside our one."""
    if sys.__stderr__ is None:  # it is closed already, and the descriptor may by now be that of the image
        yield
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey, which Pillow would clip instead."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))
    return image


def _matches(request: Request) -> bool:
    return request.folder is not None and not array_files(request)


def _read(request: Request) -> Raw:
    root = request.paths[0]
    splits = {split: folder for folder in _folders(root) if (split := split_of(folder.name))}
    if "train" not in splits:
        return Raw(_read_classes(root, request))
    pairs = {split: _read_classes(folder, request) for split, folder in splits.items()}
    return Raw(pairs["train"], pairs.get("validation"), pairs.get("test"))


def _read_classes(root: Path, request: Request) -> Pair:
    """The images of one split (N, H, W, C) and the names of their classes."""
    files = {folder.name: _image_files(folder) for folder in _folders(root)}
    if not files:
        raise InputError(f"{root}: holds no data files and no folders; expected a folder of images for each class")
    for name, paths in files.items():
        if not paths:
            raise InputError(f"{root / name}: holds no images; expected a folder of images for each class")
    labels = [name for name, paths in files.items() for _ in paths]
    return Pair(_read_all([path for paths in files.values() for path in paths], request), np.array(labels))


def _read_all(paths: list[Path], request: Request) -> np.ndarray:
    channels, height, width = image_size(request.input_shape)
    request.budget.take(len(paths) * channels * height * width, f"{len(paths)} images")
    x = np.empty((len(paths), height, width, channels), np.uint8)
    for index, path in enumerate(_reported(paths, request.progress)):
        x[index] = read_image(path, channels, height, width, request.budget)
    return x


def _reported(paths: list[Path], progress: Progress) -> Iterable[Path]:
    progress.stage("reading images", len(paths))
    for path in paths:
        yield path
        progress.advance()


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file() and not path.name.startswith("."))


SOURCES.register("images")(Source(_matches, _read))
