"""Brings the chunks of one request into the engine's blocks, a range of layers at a time and in the order in which the model needs them."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import torch

from .client import Client
from .report import Report
from .space import Space
from .vllm_parts import WorkerPart

NOBODY = 1 << 62
"""No chunk has failed."""

log = logging.getLogger(__name__)
_report = Report(log)


@dataclass(frozen=True)
class Piece:
    """One chunk of one part."""

    number: int
    """Of the chunk, from the prompt's begin."""
    hash: str
    blocks: tuple[tuple[int, ...], ...]
    """Block ids of each cache group; 0 where nothing is to be written."""


@dataclass(frozen=True)
class Share:
    """What a request loads of one part."""

    part: WorkerPart
    space: Space
    pieces: Sequence[Piece]


def plan(share: Share, is_layerwise: bool) -> list[tuple[int, int]]:
    """The ranges of layers to fetch, in order: the place where a planner that knows link, decoder and prefill comes in.

    A short first range lets the forward pass begin; each further request costs the store another round trip, so there are few.
    """
    count = len(share.part.layers)
    if not is_layerwise or share.part.form.order == "bytes" or count < 8:
        return [(0, count)]
    first = max(1, count // 8)
    middle = (first + count) // 2
    return [(0, first), (first, middle), (middle, count)]


class Loading:
    """One request's loading. Writes into the engine's blocks until `end`, and never after it."""

    def __init__(self, client: Client, shares: Sequence[Share], deadline: float, is_layerwise: bool) -> None:
        self._client = client
        self._shares = shares
        self._deadline = deadline
        self._changed = threading.Condition()
        self._ended = False
        self._failed_from = NOBODY
        self._open = {
            (share_index, layers, piece.number)
            for share_index, share in enumerate(shares)
            for layers in plan(share, is_layerwise)
            for piece in share.pieces
        }
        self._range_of = {
            share.part.layers[layer].name: (share_index, layers)
            for share_index, share in enumerate(shares)
            for layers in plan(share, is_layerwise)
            for layer in range(*layers)
        }
        self._is_layerwise = is_layerwise

    def begin(self, threads: Executor) -> None:
        for index, share in enumerate(self._shares):
            for layers in plan(share, self._is_layerwise):
                try:
                    threads.submit(self._fetch, index, layers)
                except RuntimeError:
                    self.fail()  # the engine is stopping

    @property
    def is_done(self) -> bool:
        """Whether nothing is awaited any more: all has come, or failed, or it is too late."""
        with self._changed:
            return not self._awaited(self._open) or time.monotonic() >= self._deadline

    def wait(self, layer: str) -> None:
        """Until the layer's pages are there, or will not be."""
        place = self._range_of.get(layer)
        if place is None:
            return
        with self._changed:
            while self._awaited(key for key in self._open if key[:2] == place):
                left = self._deadline - time.monotonic()
                if left <= 0:
                    # The layer is computed without them; that they may still come does not help any more.
                    self._failed_from = min(number for *where, number in self._open if tuple(where) == place)
                    return
                self._changed.wait(left)

    def end(self) -> list[int]:
        """Nothing is written after this. The blocks that do not hold what they should; of all groups together."""
        with self._changed:
            self._ended = True
            for _, _, number in self._open:
                self._failed_from = min(self._failed_from, number)
            failed = self._failed_from
        if failed == NOBODY:
            return []
        _report.failed("KV_LOAD", "the engine recomputes a prefix that did not come in time or not whole")
        pieces = [piece for share in self._shares for piece in share.pieces if piece.number >= failed]
        return [block for piece in pieces for group in piece.blocks for block in group if block > 0]

    def fail(self) -> None:
        """Nothing of it will come."""
        with self._changed:
            self._failed_from = -1
            self._changed.notify_all()

    def _awaited(self, keys: Iterable[tuple[int, tuple[int, int], int]]) -> bool:
        """Whether any of these may still come and is of use: behind a chunk that failed none is."""
        return any(number < self._failed_from for _, _, number in keys)

    def _fetch(self, index: int, layers: tuple[int, int]) -> None:
        try:
            self._fetch_range(index, layers)
        except Exception as error:
            _report.failed(type(error).__name__, f"a load fails: {error}")
            self.fail()

    def _fetch_range(self, index: int, layers: tuple[int, int]) -> None:
        share = self._shares[index]
        part = share.part
        begin, end = layers
        with self._changed:
            pieces = [] if self._ended else [piece for piece in share.pieces if piece.number < self._failed_from]
        left = self._deadline - time.monotonic()
        if not pieces or left <= 0:
            return
        # All chunks come one after another into the same memory: what is written from there to the engine's blocks is in the processor's cache.
        buffer = torch.empty((end - begin, len(pieces[0].blocks[part.layers[0].group]) * part.block_bytes), dtype=torch.uint8)
        view = memoryview(buffer.numpy()).cast("B")

        def settle(place: int, is_hit: bool) -> None:
            piece = pieces[place]
            for layer in range(begin, end) if is_hit else ():
                # Not held for longer than a layer: the engine waits for it, too.
                with self._changed:
                    if self._ended:
                        return
                    part.write(layer, piece.blocks[part.layers[layer].group], buffer[layer - begin])
            with self._changed:
                if is_hit:
                    self._open.discard((index, layers, piece.number))
                else:
                    self._failed_from = min(self._failed_from, piece.number)
                self._changed.notify_all()

        wanted = None if layers == (0, len(part.layers)) else layers
        self._client.fetch(share.space, [(piece.hash, view) for piece in pieces], left * 1000, wanted, settle)
