"""Shared memory that client and daemon both map: tensors move there without passing through a socket.

The daemon maps a segment for a lease that each use renews; a thread renews it between uses. When the lease is lost (a restarted daemon) the
segment is attached again, and meanwhile tensors go through the socket.
"""

import ctypes
import json
import logging
import mmap
import os
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any

from .errors import PROTOCOL, TIMEOUT, UNREACHABLE, KvreelError
from .frames import MAX_JSON
from .report import Report
from .transport import Transport

FOLDER = "/dev/shm"

CALL_S = 2.0
"""Longest wait for the daemon in a call about a segment."""

RETRY_S = 1.0
"""Pause between two attempts to have a segment mapped again."""

END_S = 3600.0
"""Longest wait for the daemon to let go of a segment; one that stands still and goes on later still works in it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lease:
    """The daemon's promise to map a segment."""

    id: str | int
    generation: int
    lease_s: float


@dataclass(eq=False)
class Segment:
    """Memory that both sides map."""

    path: str
    address: int
    """Of its first byte, in this process."""
    size: int
    view: memoryview | None = None
    """The memory, where the client mapped it (`create`)."""
    lease: Lease | None = None
    is_owned: bool = False
    """Made by the daemon for this client: it is gone with the daemon, so it is not attached again."""

    def offset_of(self, address: int, size: int) -> int | None:
        """Where memory of this process lies in the segment."""
        offset = address - self.address
        return offset if 0 <= offset <= self.size - size else None


class Segments:
    """The segments of one client. Thread-safe."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._segments: list[Segment] = []
        self._going: set[Lease] = set()
        """Leases that are being ended."""
        self._settled = threading.Event()
        self._settled.set()
        self._wake = threading.Event()
        self._closed = False
        self._report = Report(log)
        self._thread: threading.Thread | None = None

    def attach(self, path: str, address: int, size: int) -> Segment:
        """Tells the daemon of memory that this process has mapped at `address`: a regular file directly under /dev/shm."""
        segment = Segment(path, address, size)
        self._lease(segment)
        self._add(segment)
        return segment

    def create(self, size: int) -> Segment | None:
        """Memory that the daemon makes and both map; None when it cannot."""
        try:
            answer = self._post("/v1/segments", {"bytes": size})
            with open(answer["path"], "r+b") as file:
                mapped = mmap.mmap(file.fileno(), size)
        except (KvreelError, OSError, ValueError, KeyError) as error:
            self._report.failed("create", f"no shared memory from the daemon, tensors go through the socket: {error}")
            return None
        view = memoryview(mapped)
        segment = Segment(str(answer["path"]), address_of(view), size, view, _lease(answer), True)
        self._add(segment)
        return segment

    def place(self, view: memoryview) -> tuple[Segment, Lease, int] | None:
        """The segment that memory lies in, its lease and the offset, if it can be used now."""
        if not self._segments or view.readonly or len(view) == 0:
            return None
        address = address_of(view)
        for segment in list(self._segments):
            offset, lease = segment.offset_of(address, len(view)), segment.lease
            if offset is not None and lease is not None:
                return segment, lease, offset
        return None

    def lost(self, segment: Segment, lease: Lease) -> None:
        """The daemon no longer knows the lease. Another is asked for in the background; until then tensors go through the socket."""
        with self._lock:
            if segment.lease == lease:
                segment.lease = None
        self._wake.set()

    def abandon(self, used: "set[tuple[Segment, Lease]]") -> None:
        """A call in these segments was given up while the daemon may still be working in them.

        Ends the leases: the daemon's answer to that comes when nothing is read or written there any more. Waits for it a moment; `settled` says
        whether it has come.
        """
        for segment, lease in used:
            self.lost(segment, lease)
            self._end(lease)
        self._settled.wait(CALL_S)

    @property
    def is_leased(self) -> bool:
        """Whether any segment can be used now."""
        return any(segment.lease is not None for segment in self._segments)

    def settled(self, timeout_s: float | None = 0.0) -> bool:
        """Whether the daemon has let go of all memory of calls that were given up."""
        return self._settled.wait(timeout_s)

    def close(self) -> None:
        """Gives all of them back, and waits a moment for the daemon to have let go of them."""
        self._closed = True
        self._wake.set()
        for segment in self._segments:
            with self._lock:
                lease, segment.lease = segment.lease, None
            if lease is not None:
                self._end(lease)
        self._settled.wait(CALL_S)

    def _add(self, segment: Segment) -> None:
        with self._lock:
            self._segments.append(segment)
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="kvreel-leases", daemon=True)
                self._thread.start()
        self._wake.set()

    def _keep(self) -> None:
        """Renews leases before they run out, and asks for those that were lost."""
        while not self._closed:
            segments = list(self._segments)
            is_lost = any(segment.lease is None and not segment.is_owned for segment in segments)
            pause = min([segment.lease.lease_s / 3 for segment in segments if segment.lease is not None], default=RETRY_S)
            # A segment that is added or lost meanwhile ends the wait.
            self._wake.wait(min(pause, RETRY_S) if is_lost else pause)
            self._wake.clear()
            for segment in list(self._segments):
                if self._closed:
                    return
                if segment.lease is not None:
                    self._renew(segment, segment.lease)
                elif not segment.is_owned:
                    self._lease(segment)

    def _renew(self, segment: Segment, lease: Lease) -> None:
        try:
            self._post(f"/v1/segments/{lease.id}/renew", {"generation": lease.generation})
        except KvreelError as error:
            if error.status != 0:
                self.lost(segment, lease)

    def _lease(self, segment: Segment) -> None:
        try:
            self._probe()
            segment.lease = _lease(self._post("/v1/segments", {"path": segment.path}))
        except KvreelError as error:
            # That there is no daemon is said by the calls.
            if error.code not in (UNREACHABLE, TIMEOUT):
                self._report.failed(error.code, f"the daemon does not map {segment.path}, tensors go through the socket: {error}")

    def _end(self, lease: Lease) -> None:
        with self._lock:
            if lease in self._going:
                return
            self._going.add(lease)
            self._settled.clear()
        threading.Thread(target=self._ask_to_end, args=[lease], name="kvreel-release", daemon=True).start()

    def _ask_to_end(self, lease: Lease) -> None:
        # Asked once, and waited for: to a second question the daemon would say that it does not know the lease, though still at work there.
        try:
            with self._transport.exchange("DELETE", f"/v1/segments/{lease.id}", time.monotonic() + END_S) as answer:
                answer.read(MAX_JSON)
        except KvreelError as error:
            # It did not know the lease, or there is no daemon: either way nobody has the memory.
            if error.status == 0 and not error.is_gone:
                log.error("the daemon does not let go of shared memory: %s", error)
                return
        with self._lock:
            self._going.discard(lease)
            if not self._going:
                self._settled.set()

    def _probe(self) -> None:
        """Raises where the daemon has another /dev/shm, as in another container: a file of the same name there would be other memory."""
        path = f"{FOLDER}/kvreel-probe-{os.getpid()}-{secrets.token_hex(16)}"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise KvreelError("KV_PERMISSION", f"{FOLDER} cannot be written: {error.strerror}") from error
        try:
            os.write(descriptor, b"?")
            lease = _lease(self._post("/v1/segments", {"path": path}))
            with self._transport.exchange("DELETE", f"/v1/segments/{lease.id}", time.monotonic() + CALL_S) as answer:
                answer.read(MAX_JSON)
        finally:
            os.close(descriptor)
            os.unlink(path)

    def _post(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(fields).encode()
        with self._transport.exchange("POST", path, time.monotonic() + CALL_S, [body], "application/json") as answer:
            text = answer.read(MAX_JSON)
        try:
            return json.loads(text) if text else {}
        except ValueError as error:
            raise KvreelError(PROTOCOL, "an answer that is no JSON") from error


def address_of(view: memoryview) -> int:
    """Of the first byte of writable memory, in this process."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def _lease(answer: dict[str, Any]) -> Lease:
    try:
        return Lease(answer["segment"], int(answer["generation"]), float(answer["lease_ms"]) / 1000)
    except (KeyError, TypeError, ValueError) as error:
        raise KvreelError(PROTOCOL, "an answer about a segment without segment, generation and lease_ms") from error
