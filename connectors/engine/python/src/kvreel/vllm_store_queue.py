"""Chunks on their way to the daemon, behind the engine's back. Bounded by bytes: when the daemon is slow, chunks are dropped."""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass

import torch

from .client import Client
from .report import Report
from .space import Space

DEADLINE_MS = 60_000
"""Of one call. Nobody waits for it."""

BATCH_BYTES = 64 << 20
"""A call takes chunks of one space until they are more than this."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chunk:
    """A chunk as the daemon is to see it: contiguous memory of the host."""

    space: Space
    hash: str
    start: int
    data: torch.Tensor

    @property
    def view(self) -> memoryview:
        return memoryview(self.data.view(torch.uint8).numpy()).cast("B")


class StoreQueue:
    """Stores chunks in the order they come, on one thread: the daemon works on all chunks of a call at once."""

    def __init__(self, client: Client, max_bytes: int) -> None:
        self._client = client
        self._max_bytes = max_bytes
        self._bytes = 0
        self._chunks: deque[Chunk] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._report = Report(log)
        self.dropped = 0
        """Chunks that found the queue full."""
        self.stored = 0
        """Chunks the daemon has, by its own word."""
        threading.Thread(target=self._run, name="kvreel-store", daemon=True).start()

    def has_room(self, size: int) -> bool:
        """Whether a chunk would be taken; asked before it is gathered. Counts it as dropped if not."""
        with self._changed:
            fits = self._bytes + size <= self._max_bytes and not self._closed
            self.dropped += not fits
        if not fits:
            self._report.failed("KV_STORE_QUEUE_FULL", "the daemon stores more slowly than the engine computes: chunks are not stored")
        return fits

    def put(self, chunk: Chunk) -> None:
        with self._changed:
            self._chunks.append(chunk)
            self._bytes += chunk.data.nbytes
            self._changed.notify_all()

    def close(self, timeout_s: float) -> None:
        """Waits so long for what is queued, and forgets the rest."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._bytes > 0 and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            self._closed = True
            self._chunks.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while batch := self._take():
            try:
                stored = self._client.store(batch[0].space, [(chunk.hash, chunk.view, chunk.start) for chunk in batch], DEADLINE_MS)
                self.stored += sum(stored)
            except Exception as error:
                self._report.failed(type(error).__name__, f"chunks are not stored: {error}")
            finally:
                with self._changed:
                    self._bytes -= sum(chunk.data.nbytes for chunk in batch)
                    self._changed.notify_all()

    def _take(self) -> list[Chunk]:
        """The next chunks of one space; none when closed."""
        with self._changed:
            while not self._chunks and not self._closed:
                self._changed.wait()
            batch: list[Chunk] = []
            size = 0
            while self._chunks and size < BATCH_BYTES and (not batch or self._chunks[0].space == batch[0].space):
                batch.append(self._chunks.popleft())
                size += batch[-1].data.nbytes
            return batch
