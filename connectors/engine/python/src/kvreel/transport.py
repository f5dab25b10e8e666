"""HTTP/1.1 to the daemon, over a Unix socket or TCP: pooled connections, a total deadline a call, one retry on a stale connection.

The standard library's HTTP client does the parsing; what it lacks is a deadline over all of a call, so its socket is wrapped.
"""

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from .errors import PROTOCOL, TIMEOUT, UNREACHABLE, KvreelError
from .frames import MAX_JSON

CONNECT_TIMEOUT_S = 1.0
"""A daemon of the same node that has not accepted by then is not going to."""

PAUSE_S = 5.0
"""After a connection attempt timed out no other is made for so long: a dead host would cost every call CONNECT_TIMEOUT_S."""

IDLE_LIMIT_S = 300.0
"""Connections idle for longer are not used again; the daemon keeps them for twice as long."""

_STALE = (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected)

Body = Sequence[bytes | bytearray | memoryview]


class Transport:
    """Calls to one daemon. Thread-safe: each call in flight has a connection of its own."""

    def __init__(self, address: str, token: str | None = None) -> None:
        self._place = _Place.parse(address)
        if token is not None and not token.isprintable():
            raise ValueError("expected token to be printable text")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._idle: list[tuple[float, _Connection]] = []
        self._busy: set[_Connection] = set()
        self._lock = threading.Lock()
        self._paused_until = 0.0
        self._closed = False
        self.on_retry: Callable[[], None] | None = None
        """Called when a call is sent again because its connection had gone stale."""

    @contextmanager
    def exchange(
        self, method: str, path: str, deadline: float, body: Body = (), content_type: str = ""
    ) -> Iterator[http.client.HTTPResponse]:
        """One call; the answer is read within the block. `deadline` is by time.monotonic(). Every failure is a KvreelError."""
        connection: _Connection | None = None
        try:
            connection, response = self._send(method, path, deadline, body, content_type)
            if response.status >= 400:
                raise _refusal(response)
            yield response
            # To the end of the answer, so that the connection can be used again.
            if response.read(1):
                raise KvreelError(PROTOCOL, "an answer that goes on after its end")
            self._put_back(connection)
        except _Refused as error:
            if connection is not None:
                self._put_back(connection)
            raise KvreelError(error.code, error.message, error.status) from error
        except BaseException as error:
            if connection is not None:
                self._drop(connection)
            failure = _translated(error)
            if failure is None:
                raise
            raise failure from error

    @property
    def is_busy(self) -> bool:
        return bool(self._busy)

    def abort(self) -> None:
        """Ends the calls in flight; each is a failure to its caller."""
        with self._lock:
            for connection in self._busy:
                connection.abort()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        self.abort()
        for _, connection in idle:
            connection.close()

    def _send(
        self, method: str, path: str, deadline: float, body: Body, content_type: str
    ) -> "tuple[_Connection, http.client.HTTPResponse]":
        connection = self._take()
        if connection is not None:
            try:
                return connection, self._attempt(connection, method, path, deadline, body, content_type)
            except _STALE:
                # The daemon closed it while it lay idle, so it closed the others too.
                self._drop(connection)
                self._drop_idle()
                if self.on_retry is not None:
                    self.on_retry()
            except BaseException:
                self._drop(connection)
                raise
        connection = self._connect(deadline)
        try:
            return connection, self._attempt(connection, method, path, deadline, body, content_type)
        except BaseException:
            self._drop(connection)
            raise

    def _attempt(
        self, connection: "_Connection", method: str, path: str, deadline: float, body: Body, content_type: str
    ) -> http.client.HTTPResponse:
        connection.deadline = deadline
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in self._headers.items():
            connection.putheader(name, value)
        if content_type:
            connection.putheader("Content-Type", content_type)
            connection.putheader("Content-Length", str(sum(len(part) for part in body)))
        connection.endheaders()
        try:
            for part in body:
                connection.send(part)
        except (BrokenPipeError, ConnectionResetError):
            # A daemon that refuses a body answers before it has read all of it; the answer says why.
            return connection.getresponse()
        return connection.getresponse()

    def _take(self) -> "_Connection | None":
        with self._lock:
            if self._closed:
                raise KvreelError(UNREACHABLE, "the client is closed")
            while self._idle:
                since, connection = self._idle.pop()
                if time.monotonic() - since < IDLE_LIMIT_S:
                    self._busy.add(connection)
                    return connection
                connection.close()
        return None

    def _put_back(self, connection: "_Connection") -> None:
        with self._lock:
            self._busy.discard(connection)
            # The daemon may have said that it closes the connection, which http.client then has done.
            if not self._closed and connection.sock is not None:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()

    def _drop(self, connection: "_Connection") -> None:
        """Closes it. Raises where that was asked for from without: the daemon did not go, and is not asked again."""
        with self._lock:
            self._busy.discard(connection)
        connection.close()
        if connection.is_aborted:
            raise KvreelError(UNREACHABLE, "the client is closed")

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _connect(self, deadline: float) -> "_Connection":
        now = time.monotonic()
        if now < self._paused_until:
            raise KvreelError(UNREACHABLE, f"{self._place} did not accept a connection in time; it is asked again later")
        connection = _Connection(self._place)
        connection.deadline = min(deadline, now + CONNECT_TIMEOUT_S)
        try:
            connection.connect()
        except TimeoutError as error:
            self._paused_until = time.monotonic() + PAUSE_S
            raise KvreelError(UNREACHABLE, f"{self._place} did not accept a connection in time") from error
        except OSError as error:
            message = f"no daemon answers at {self._place} ({error.strerror or error}): start `kvreel serve`"
            raise KvreelError(UNREACHABLE, message, is_gone=isinstance(error, (ConnectionRefusedError, FileNotFoundError))) from error
        with self._lock:
            self._busy.add(connection)
            if self._closed:
                connection.abort()
        return connection


class _Place:
    """Where the daemon listens."""

    def __init__(self, path: str, host: str, port: int) -> None:
        self.path = path
        self.host = host
        self.port = port

    @classmethod
    def parse(cls, address: str) -> "_Place":
        if not isinstance(address, str) or not address:
            raise ValueError("expected address to be the path of the daemon's socket or http://host:port")
        if "://" not in address:
            return cls(address, "", 0)
        url = urlsplit(address)
        if url.scheme == "unix":
            return cls(url.path, "", 0)
        if url.scheme != "http" or not url.hostname or url.path not in ("", "/") or url.query or url.username:
            raise ValueError(f"expected address to be the path of the daemon's socket or http://host:port, got {address!r}")
        return cls("", url.hostname, url.port or 80)

    def __str__(self) -> str:
        return self.path or f"http://{self.host}:{self.port}"

    def open(self, timeout: float) -> socket.socket:
        if not self.path:
            opened = socket.create_connection((self.host, self.port), timeout)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return opened
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.settimeout(timeout)
            opened.connect(self.path)
        except BaseException:
            opened.close()
            raise
        return opened


class _Connection(http.client.HTTPConnection):
    """A connection whose reads and writes all end by `deadline`."""

    auto_open = 0

    def __init__(self, place: _Place) -> None:
        super().__init__(place.host or "localhost", place.port or None)
        self.place = place
        self.deadline = 0.0
        self.is_aborted = False

    def connect(self) -> None:
        self.sock = _TimedSocket(self.place.open(self.left()), self)

    def abort(self) -> None:
        """Ends what another thread is waiting for here."""
        self.is_aborted = True
        if self.sock is not None:
            self.sock.shutdown(socket.SHUT_RDWR)

    def left(self) -> float:
        """Seconds to the deadline. Raises TimeoutError past it: a timeout of 0 would mean a socket that does not block."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left


class _TimedSocket:
    """As much of a socket as http.client uses."""

    def __init__(self, inner: socket.socket, connection: _Connection) -> None:
        self._inner = inner
        self._connection = connection

    def sendall(self, data: bytes) -> None:
        self._inner.settimeout(self._connection.left())
        self._inner.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        # The reader goes past its buffer for what is larger, so a tensor is received where the caller wants it.
        return io.BufferedReader(_Incoming(self._inner, self._connection))

    def shutdown(self, how: int) -> None:
        with suppress(OSError):
            self._inner.shutdown(how)

    def close(self) -> None:
        self._inner.close()


class _Incoming(io.RawIOBase):
    def __init__(self, inner: socket.socket, connection: _Connection) -> None:
        self._inner = inner
        # Holds the socket open: http.client closes it before it reads an answer after which the daemon hangs up.
        self._raw = inner.makefile("rb", buffering=0)
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._inner.settimeout(self._connection.left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Refused(KvreelError):
    """An error that the daemon answered: the connection is as good as before."""


def _refusal(response: http.client.HTTPResponse) -> KvreelError:
    text = response.read(MAX_JSON)
    try:
        error = json.loads(text)["error"]
        refused = _Refused(str(error["code"]), str(error["message"]), response.status)
    except (ValueError, KeyError, TypeError):
        return KvreelError(PROTOCOL, f"HTTP {response.status} without an error of ours", response.status)
    return refused if response.isclosed() else KvreelError(refused.code, refused.message, refused.status)


def _translated(error: BaseException) -> KvreelError | None:
    """What went wrong on the connection; None for what is no failure of it."""
    if isinstance(error, TimeoutError):
        return KvreelError(TIMEOUT, "the deadline passed before the daemon had answered")
    if isinstance(error, (OSError, http.client.IncompleteRead, http.client.RemoteDisconnected)):
        return KvreelError(UNREACHABLE, "the daemon went away during the call", is_gone=True)
    if isinstance(error, http.client.HTTPException):
        return KvreelError(PROTOCOL, f"an answer that is no HTTP ({type(error).__name__})")
    return None
