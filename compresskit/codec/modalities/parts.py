"""Several byte strings as one, for a signal's metadata: each but the last behind its length, deflated where that is smaller."""

from __future__ import annotations

import zlib

from compresskit.codec.varint import Cursor, pack_varint
from compresskit.errors import InputError

MAX_METADATA = 2**26
_RAW, _DEFLATED = b"\0", b"\1"


def join_parts(*parts: bytes) -> bytes:
    """The parts as one byte string.

    Raises:
        InputError: they are over `MAX_METADATA` bytes together.
    """
    *framed, last = parts
    joined = b"".join(pack_varint(len(part)) + part for part in framed) + last
    if len(joined) > MAX_METADATA:
        raise InputError(f"a header of {len(joined)} bytes is more than can be kept ({MAX_METADATA}); remove what is not needed to read the samples")
    return min(_RAW + joined, _DEFLATED + _deflate(joined), key=len)


def split_parts(data: bytes, count: int) -> list[bytes]:
    """The `count` parts that `join_parts` made `data` of.

    Raises:
        InputError: it did not.
    """
    cursor = Cursor(_unpack(data))
    framed = [cursor.take(cursor.varint()) for _ in range(count - 1)]
    return [*framed, cursor.take(cursor.remaining)]


def _deflate(data: bytes) -> bytes:
    """Raw deflate: the stream around the metadata has a checksum already."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def _unpack(data: bytes) -> bytes:
    if data[:1] == _RAW:
        return data[1:]
    if data[:1] != _DEFLATED:
        raise InputError("damaged metadata: packed in an unknown way")
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(data[1:], MAX_METADATA + 1)
    except zlib.error as error:
        raise InputError(f"damaged metadata ({error})") from error
    if len(unpacked) > MAX_METADATA or not unpacker.eof or unpacker.unused_data:
        raise InputError("damaged metadata: it does not unpack to what was packed")
    return unpacked
