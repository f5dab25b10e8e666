"""What the client counts, so that a cache that only ever misses can be told from one that is gone."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

ABSENT = "absent"
"""Cause of a miss that is none of the codes: the store does not have it."""


@dataclass
class Counters:
    """Counts since the client was made. Read them by `snapshot()`; causes are `absent` or a KV_... code."""

    hits: int = 0
    misses: Counter[str] = field(default_factory=Counter)
    """Entries that were asked for and did not come, by cause."""
    stored: int = 0
    not_stored: Counter[str] = field(default_factory=Counter)
    fetched_bytes: int = 0
    stored_bytes: int = 0
    found: int = 0
    """Hashes that a lookup or exists called present; `not_found` and `not_known` likewise."""
    not_found: int = 0
    not_known: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """Calls that failed as a whole, by code."""
    retries: int = 0
    """Calls that were sent again: a stale connection, a restarted daemon."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def hit(self, size: int) -> None:
        with self.lock:
            self.hits += 1
            self.fetched_bytes += size

    def miss(self, cause: str, count: int = 1) -> None:
        with self.lock:
            self.misses[cause] += count

    def store(self, size: int) -> None:
        with self.lock:
            self.stored += 1
            self.stored_bytes += size

    def no_store(self, cause: str, count: int = 1) -> None:
        with self.lock:
            self.not_stored[cause] += count

    def lookup(self, answer: str) -> None:
        with self.lock:
            self.found += answer.count("1")
            self.not_found += answer.count("0")
            self.not_known += answer.count("?")

    def failure(self, code: str) -> None:
        with self.lock:
            self.failures[code] += 1

    def retry(self) -> None:
        with self.lock:
            self.retries += 1

    def snapshot(self) -> dict[str, Any]:
        """The counts of one moment, as JSON can say them."""
        with self.lock:
            values = {name: value for name, value in vars(self).items() if name != "lock"}
            return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}
