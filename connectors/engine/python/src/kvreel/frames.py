"""The frames that carry tensors: 16 bytes of header (index, status, length, little-endian), then the payload."""

import json
import struct
from typing import Any, Protocol

from .errors import PROTOCOL, KvreelError

CONTENT_TYPE = "application/x-kvreel-frames"
END = 0xFFFFFFFF
"""Index of the first frame of a store and of the last frame of every answer."""

DONE = 0
"""Status of an entry that was fetched or stored."""
MISS = 1
FAILED = 2

MAX_JSON = 1 << 20

_HEADER = struct.Struct("<IIQ")


class Source(Protocol):
    """What frames are read from. Returns fewer bytes than asked for only at the end."""

    def readinto(self, buffer: memoryview, /) -> int: ...


def pack_header(index: int, status: int, size: int) -> bytes:
    return _HEADER.pack(index, status, size)


def read_header(source: Source) -> tuple[int, int, int]:
    """Index, status and payload length of the next frame."""
    header = bytearray(_HEADER.size)
    read_exactly(source, memoryview(header))
    return _HEADER.unpack(header)


def read_exactly(source: Source, into: memoryview) -> None:
    """Fills `into`; an answer that ends before is the daemon's death or a broken answer."""
    done = 0
    while done < len(into):
        count = source.readinto(into[done:])
        if count == 0:
            raise KvreelError(PROTOCOL, "the answer ended within a frame")
        done += count


def read_json(source: Source, size: int) -> Any:
    if size > MAX_JSON:
        raise KvreelError(PROTOCOL, f"a frame of {size} bytes where JSON was expected")
    text = bytearray(size)
    read_exactly(source, memoryview(text))
    try:
        return json.loads(text)
    except ValueError as error:
        raise KvreelError(PROTOCOL, "a frame that is no JSON") from error
