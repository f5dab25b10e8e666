"""One fetch or store: what is asked, what has come, what is still open. Knows the wire's frames but no connection."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .counters import ABSENT
from .errors import PROTOCOL, STALE_SEGMENT, KvreelError
from .frames import CONTENT_TYPE, DONE, END, FAILED, MISS, Source, pack_header, read_exactly, read_header, read_json
from .segments import Lease, Segment, Segments

Hash = bytes | str
OnEntry = Callable[[int, bool], None]
"""Called with an entry's place in the call and whether it was fetched or stored."""


@dataclass
class Entry:
    """One tensor of a call."""

    hash: str
    view: memoryview
    start: int | None = None
    place: tuple[Segment, Lease, int] | None = None
    """Where the memory lies in a segment, as the request in flight says it."""
    is_repeated: bool = False
    """Its segment was stale once; a second time is a failure."""

    def to_json(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"hash": self.hash, "bytes": len(self.view)}
        if self.start is not None:
            fields["start"] = self.start
        if self.place is not None:
            _, lease, offset = self.place
            fields |= {"segment": lease.id, "generation": lease.generation, "offset": offset}
        return fields


@dataclass(frozen=True)
class Request:
    body: Sequence[bytes | memoryview]
    content_type: str


class Move:
    """What fetches and stores have in common: each entry is open until its frame has come."""

    path = ""

    def __init__(self, entries: Sequence[Entry], segments: Segments, on_entry: OnEntry | None) -> None:
        self.entries = entries
        self.open = dict.fromkeys(range(len(entries)))
        self.results = [False] * len(entries)
        self.misses: list[tuple[str, str]] = []
        """Code and message of each entry that did not come."""
        self.in_segments: set[tuple[Segment, Lease]] = set()
        """What the request in flight uses."""
        self._asked: list[int] = []
        self._segments = segments
        self._on_entry = on_entry

    def request(self, digest: str, deadline_ms: int) -> Request:
        """Asks for open entries; until `open` is empty there is another request to make."""
        raise NotImplementedError

    def read(self, source: Source) -> None:
        """Reads an answer to its end frame. Raises a KvreelError when it breaks off or is none."""
        while True:
            place, status, size = read_header(source)
            if place == END:
                read_json(source, size)
                break
            if place >= len(self._asked) or self._asked[place] not in self.open:
                raise KvreelError(PROTOCOL, "a frame for an entry that was not asked for or has come already")
            self._read_frame(source, self._asked[place], status, size)
        self.in_segments = set()
        for index in self._asked:
            if index in self.open and not self.entries[index].is_repeated:
                self._settle(index, PROTOCOL, "the answer left out an entry")

    def finish(self, error: KvreelError) -> None:
        """The call failed: what is open stays away."""
        for index in list(self.open):
            self._settle(index, error.code)

    def _read_frame(self, source: Source, index: int, status: int, size: int) -> None:
        entry = self.entries[index]
        if status == DONE:
            self._receive(source, entry, size)
            self._settle(index)
        elif status == MISS and size == 0:
            self._settle(index, ABSENT)
        elif status == FAILED:
            code, message = _failure(read_json(source, size))
            if code == STALE_SEGMENT and entry.place is not None and not entry.is_repeated:
                entry.is_repeated = True
                self._segments.lost(entry.place[0], entry.place[1])
            else:
                self._settle(index, code, message)
        else:
            raise KvreelError(PROTOCOL, f"a frame of status {status} and {size} bytes")

    def _receive(self, source: Source, entry: Entry, size: int) -> None:
        if size != 0:
            raise KvreelError(PROTOCOL, f"a frame of {size} bytes where none were expected")

    def _settle(self, index: int, code: str = "", message: str = "") -> None:
        del self.open[index]
        self.results[index] = not code
        if code:
            self.misses.append((code, message))
        if self._on_entry is not None:
            self._on_entry(index, not code)

    def _ask(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        self._asked = list(indices)
        places = [self.entries[index].place for index in indices]
        self.in_segments = {(place[0], place[1]) for place in places if place is not None}
        return [self.entries[index].to_json() for index in indices]

    def _find_places(self) -> None:
        for index in self.open:
            self.entries[index].place = self._segments.place(self.entries[index].view)


class Fetch(Move):
    path = "/v1/fetch"

    def __init__(
        self,
        entries: Sequence[tuple[Hash, memoryview]],
        segments: Segments,
        layers: tuple[int, int] | None,
        on_entry: OnEntry | None,
    ) -> None:
        super().__init__([Entry(hex_of(value), _writable(view)) for value, view in entries], segments, on_entry)
        self._layers = layers

    def request(self, digest: str, deadline_ms: int) -> Request:
        self._find_places()
        fields: dict[str, Any] = {"space": digest, "entries": self._ask(list(self.open)), "deadline_ms": deadline_ms}
        if self._layers is not None:
            fields["layers"] = list(self._layers)
        return Request([json.dumps(fields).encode()], "application/json")

    def _receive(self, source: Source, entry: Entry, size: int) -> None:
        if size != (0 if entry.place else len(entry.view)):
            raise KvreelError(PROTOCOL, f"a frame of {size} bytes for a tensor of {len(entry.view)}")
        if size > 0:
            read_exactly(source, entry.view)


class Store(Move):
    path = "/v1/store"

    def __init__(self, entries: Sequence[tuple[Hash, memoryview, int | None]], segments: Segments, on_entry: OnEntry | None) -> None:
        super().__init__([Entry(hex_of(value), _bytes_of(view), start) for value, view, start in entries], segments, on_entry)

    def request(self, digest: str, deadline_ms: int) -> Request:
        # A request carries either places in segments or tensors: what lies in segments goes first.
        self._find_places()
        placed = [index for index in self.open if self.entries[index].place is not None]
        asked = placed or list(self.open)
        text = json.dumps({"space": digest, "entries": self._ask(asked), "deadline_ms": deadline_ms}).encode()
        if placed:
            return Request([text], "application/json")
        body: list[bytes | memoryview] = [pack_header(END, DONE, len(text)) + text]
        for place, index in enumerate(asked):
            view = self.entries[index].view
            body += [pack_header(place, DONE, len(view)), view]
        return Request(body, CONTENT_TYPE)


def hex_of(value: Hash) -> str:
    """A prefix hash as the wire has it."""
    return value if isinstance(value, str) else value.hex()


def _bytes_of(view: memoryview) -> memoryview:
    return memoryview(view).cast("B")


def _writable(view: memoryview) -> memoryview:
    view = _bytes_of(view)
    if view.readonly:
        raise TypeError("expected memory that can be written")
    return view


def _failure(value: Any) -> tuple[str, str]:
    if isinstance(value, dict) and isinstance(value.get("code"), str):
        return value["code"], str(value.get("message", ""))
    raise KvreelError(PROTOCOL, "a failed entry without a code")
