"""Client of the daemon: every failure is a miss, counted in `counters` and said once in the log. Standard library only.

Thread-safe; each call blocks its own thread for no longer than its deadline. Tensors are received straight into the caller's memory, or move
through shared memory where a segment covers it (`segments`).
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

from .counters import Counters
from .errors import PROTOCOL, UNKNOWN_SPACE, UNREACHABLE, KvreelError
from .report import Report
from .segments import Segments
from .space import Space
from .tensors import Fetch, Hash, Move, OnEntry, Store, hex_of
from .transport import Transport

T = TypeVar("T")
MARGIN_S = 0.05
"""The daemon is told to end so much before the caller's deadline (at most a tenth of it), so that its answer arrives in time."""

MAX_ANSWER = 64 << 20
"""Longest JSON that is read, in bytes."""

MAX_SPACES = 10_000
"""Spaces whose digest is remembered; a server with more tenants registers some again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeyPage:
    """Some of the hashes that a space holds."""

    keys: list[tuple[str, int]]
    """Hash (hex) and bytes as stored."""
    cursor: str | None
    """For the next page; None after the last."""


class Client:
    """The daemon at `address`: the path of its Unix socket, or `http://host:port` with the `token` it wants there.

    `timeout_s` bounds each call that is given no deadline of its own. Raises ValueError for an address or token that cannot be.
    """

    def __init__(self, address: str, token: str | None = None, timeout_s: float = 10.0) -> None:
        if not timeout_s > 0:
            raise ValueError(f"expected timeout_s to be positive, got {timeout_s!r}")
        self.address = address
        self.counters = Counters()
        self._timeout_s = timeout_s
        self._transport = Transport(address, token)
        self._transport.on_retry = self.counters.retry
        self.segments = Segments(self._transport)
        self._digests: dict[Space, str] = {}
        self._calls = Report(log)
        self._entries = Report(log)
        self._last_was_well = True
        self._is_closed = False

    def register(self, space: Space) -> str:
        """The digest the daemon knows the space by; empty when it cannot be had. The other calls register by themselves."""
        return self._guarded(lambda: self._digest(space, self._deadline(None)), "")

    def lookup(self, space: Space, hashes: Sequence[Hash], wait_ms: int = 0, deadline_ms: float | None = None) -> str:
        """One character a hash: `1` present, `0` not, `?` not known yet (ask again). Answered from the daemon's memory, all `0` on failure.

        With `wait_ms` the daemon waits so long for what it does not know yet.
        """
        return self._presence("/v1/lookup", space, hashes, {"wait_ms": wait_ms}, deadline_ms)

    def exists(self, space: Space, hashes: Sequence[Hash], deadline_ms: float | None = None) -> str:
        """As `lookup`, asked of the store itself: never `?`."""
        told = self._told_ms(self._deadline(deadline_ms))
        return self._presence("/v1/exists", space, hashes, {"deadline_ms": told}, deadline_ms)

    def fetch(
        self,
        space: Space,
        entries: Sequence[tuple[Hash, memoryview]],
        deadline_ms: float | None = None,
        layers: tuple[int, int] | None = None,
        on_entry: OnEntry | None = None,
    ) -> list[bool]:
        """Fills each entry's memory, which is as long as its tensor; True for each that was filled, by the deadline.

        `layers` (begin, end) asks for that half-open range of layers only. `on_entry(place, is_hit)` is called once for each entry, on this
        thread, as soon as it is settled; entries may share memory that lies in no segment if it takes each tensor from there. Memory of a
        missed entry holds anything. Where `segments.settled()` is not true afterwards, the daemon may still write into memory of entries that
        lie in segments.
        """
        work = Fetch(entries, self.segments, layers, on_entry)
        return self._move(work, space, deadline_ms, self.counters.hit, self.counters.miss)

    def store(
        self,
        space: Space,
        entries: Sequence[tuple[Hash, memoryview, int | None]],
        deadline_ms: float | None = None,
        on_entry: OnEntry | None = None,
    ) -> list[bool]:
        """Stores each entry's tensor; True for each that is stored, or was already. The third part is the absolute position of the entry's
        first token, or None. `on_entry` and `segments.settled()` as with `fetch`: until then the daemon may still read the memory.
        """
        work = Store(entries, self.segments, on_entry)
        return self._move(work, space, deadline_ms, self.counters.store, self.counters.no_store)

    def prefetch(self, space: Space, hashes: Sequence[Hash]) -> int:
        """Has the daemon bring objects into its memory, without waiting for it; how many it accepted."""
        wanted = {"hashes": _hexes(hashes)}
        return self._guarded(lambda: int(self._in_space("/v1/prefetch", space, wanted, self._deadline(None))["accepted"]), 0)

    def delete(self, space: Space, hashes: Sequence[Hash]) -> int | None:
        """How many were there and are deleted; None when the daemon could not be asked."""
        wanted = {"hashes": _hexes(hashes)}
        return self._guarded(lambda: int(self._in_space("/v1/delete", space, wanted, self._deadline(None))["deleted"]), None)

    def keys(self, space: Space, limit: int = 500, cursor: str | None = None) -> KeyPage | None:
        """A page of what the space holds; None when the daemon could not be asked."""

        def ask(digest: str, deadline: float) -> KeyPage:
            query = {"space": digest, "limit": limit, **({"cursor": cursor} if cursor else {})}
            answer = self._json("GET", f"/v1/keys?{urlencode(query)}", None, deadline)
            return KeyPage([(key["hash"], key["stored_bytes"]) for key in answer["keys"]], answer.get("cursor"))

        return self._guarded(lambda: self._registered(space, self._deadline(None), ask), None)

    def usage(self) -> dict[str, Any] | None:
        """What the store holds: objects, stored_bytes, max_bytes where bounded, and spaces; None when the daemon could not be asked."""
        return self._guarded(lambda: self._json("GET", "/v1/usage", None, self._deadline(None)), None)

    def is_ready(self, deadline_ms: float | None = None) -> bool:
        """Whether the daemon answers and its store does."""
        return self._guarded(lambda: self._json("GET", "/ready", None, self._deadline(deadline_ms)) is not None, False)

    @property
    def is_well(self) -> bool:
        """Whether the last call was answered as it should be, hit or miss; true before the first."""
        return self._last_was_well

    @property
    def is_busy(self) -> bool:
        """Whether a call is in flight."""
        return self._transport.is_busy

    def close(self) -> None:
        """Ends the calls in flight and gives segments back. Calls after it are misses; closing twice is fine."""
        self._is_closed = True
        self._transport.abort()
        self.segments.close()
        self._transport.close()

    def _presence(self, path: str, space: Space, hashes: Sequence[Hash], fields: dict[str, Any], deadline_ms: float | None) -> str:
        if len(hashes) == 0:
            return ""
        wanted = {"hashes": _hexes(hashes), **fields}

        def ask() -> str:
            hits = self._in_space(path, space, wanted, self._deadline(deadline_ms)).get("hits")
            if not isinstance(hits, str) or len(hits) != len(hashes) or set(hits) - set("01?"):
                raise KvreelError(PROTOCOL, f"the answer of {path} does not say one character a hash")
            return hits

        hits = self._guarded(ask, "0" * len(hashes))
        self.counters.lookup(hits)
        return hits

    def _move(
        self,
        work: Move,
        space: Space,
        deadline_ms: float | None,
        count_done: Callable[[int], None],
        count_missed: Callable[[str], None],
    ) -> list[bool]:
        deadline = self._deadline(deadline_ms)

        def ask(digest: str, deadline: float) -> None:
            while work.open:
                request = work.request(digest, self._told_ms(deadline))
                with self._transport.exchange("POST", work.path, deadline, request.body, request.content_type) as answer:
                    work.read(answer)

        if not work.open:
            return []
        try:
            self._registered(space, deadline, ask)
            self._say_well()
        except KvreelError as error:
            self._failed(error)
            if work.in_segments:
                self.segments.abandon(work.in_segments)
            work.finish(error)
        for entry, is_done in zip(work.entries, work.results, strict=True):
            if is_done:
                count_done(len(entry.view))
        for code, message in work.misses:
            count_missed(code)
            if message:
                self._entries.failed(code, message)
        return work.results

    def _in_space(self, path: str, space: Space, fields: dict[str, Any], deadline: float) -> dict[str, Any]:
        return self._registered(space, deadline, lambda digest, by: self._json("POST", path, {"space": digest, **fields}, by))

    def _registered(self, space: Space, deadline: float, ask: Callable[[str, float], T]) -> T:
        """Asks with the space's digest; a daemon that has forgotten it is told again, once."""
        if self._is_closed:
            raise KvreelError(UNREACHABLE, "the client is closed")
        try:
            return ask(self._digest(space, deadline), deadline)
        except KvreelError as error:
            if error.code != UNKNOWN_SPACE:
                raise
        self._digests.pop(space, None)
        self.counters.retry()
        return ask(self._digest(space, deadline), deadline)

    def _digest(self, space: Space, deadline: float) -> str:
        digest = self._digests.get(space)
        if digest is None:
            digest = self._json("POST", "/v1/spaces", space.to_json(), deadline).get("space")
            if not isinstance(digest, str):
                raise KvreelError(PROTOCOL, "the answer of /v1/spaces does not say the space")
            if len(self._digests) >= MAX_SPACES:
                self._digests.clear()
            self._digests[space] = digest
        return digest

    def _json(self, method: str, path: str, fields: dict[str, Any] | None, deadline: float) -> dict[str, Any]:
        body = [] if fields is None else [json.dumps(fields).encode()]
        with self._transport.exchange(method, path, deadline, body, "application/json" if body else "") as answer:
            text = answer.read(MAX_ANSWER)
        try:
            value = json.loads(text)
        except ValueError as error:
            raise KvreelError(PROTOCOL, f"the answer of {path.partition('?')[0]} is no JSON") from error
        if not isinstance(value, dict):
            raise KvreelError(PROTOCOL, f"the answer of {path.partition('?')[0]} is no JSON object")
        return value

    def _guarded(self, call: Callable[[], T], otherwise: T) -> T:
        try:
            answer = call()
        except KvreelError as error:
            self._failed(error)
            return otherwise
        except (KeyError, TypeError, ValueError) as error:
            self._failed(KvreelError(PROTOCOL, f"an answer of another shape ({error!r})"))
            return otherwise
        self._say_well()
        return answer

    def _failed(self, error: KvreelError) -> None:
        self.counters.failure(error.code)
        self._last_was_well = False
        self._calls.failed(error.code, f"{error.message}; the engine goes on without its cache")

    def _say_well(self) -> None:
        self._last_was_well = True
        self._calls.mended(f"the daemon at {self.address} answers again")

    def _deadline(self, deadline_ms: float | None) -> float:
        return time.monotonic() + (self._timeout_s if deadline_ms is None else deadline_ms / 1000)

    def _told_ms(self, deadline: float) -> int:
        left = deadline - time.monotonic()
        return max(1, int((left - min(MARGIN_S, left / 10)) * 1000))


def _hexes(hashes: Iterable[Hash]) -> list[str]:
    return [hex_of(value) for value in hashes]
