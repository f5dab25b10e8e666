"""Lookups of prefixes, each on a thread of its own, so that a daemon that is slow or gone never holds the scheduler up."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .client import Client
from .space import Space
from .vllm_hits import longest

THREADS = 8

WAIT_MS = 100
"""How long the daemon may hold one answer back while it looks at the store."""


@dataclass
class Lookup:
    """One prompt's chunks in all the spaces that hold a share of them."""

    hashes: Sequence[str]
    spaces: Sequence[tuple[Space, int | None]]
    """Each with how far back its layers look, in tokens."""
    deadline: float
    answers: list[str] = field(default_factory=list)
    """Of each space; `?` where the daemon does not know yet."""
    is_settled: bool = False


class Lookups:
    """The lookups of one scheduler."""

    def __init__(self, client: Client, chunk_tokens: int) -> None:
        self._client = client
        self._chunk_tokens = chunk_tokens
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kvreel-lookup")

    def begin(self, hashes: Sequence[str], spaces: Sequence[tuple[Space, int | None]], deadline: float) -> Lookup:
        lookup = Lookup(hashes, spaces, deadline, ["?" * len(hashes)] * len(spaces))
        self._threads.submit(self._run, lookup)
        return lookup

    def chunks(self, lookup: Lookup, first: int) -> int | None:
        """How many chunks can be loaded where the engine has `first` of them; None while that is not known."""
        if not lookup.is_settled and time.monotonic() < lookup.deadline:
            return None
        return longest(_with_windows(lookup), first, self._chunk_tokens)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, lookup: Lookup) -> None:
        while not lookup.is_settled and (left := lookup.deadline - time.monotonic()) > 0:
            wait_ms = int(min(WAIT_MS, left * 1000))
            for index, (space, _) in enumerate(lookup.spaces):
                if "?" in lookup.answers[index]:
                    lookup.answers[index] = self._client.lookup(space, lookup.hashes, wait_ms, left * 1000)
            known = _with_windows(lookup)
            # Whatever the open answers turn out to be, the prefix stays as long.
            lookup.is_settled = longest(known, 0, self._chunk_tokens) == longest(known, 0, self._chunk_tokens, "1?")


def _with_windows(lookup: Lookup) -> list[tuple[str, int | None]]:
    return [(answer, window) for answer, (_, window) in zip(lookup.answers, lookup.spaces, strict=True)]
