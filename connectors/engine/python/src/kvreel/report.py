"""Log lines about failures: one when something begins to fail and one when it is well again, not one a key."""

import logging
import threading
import time

REPEAT_S = 60.0
"""A failure that lasts is said again so often."""


class Report:
    """Says each kind of failure once until it has lasted REPEAT_S or has been mended. Thread-safe."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def failed(self, kind: str, message: str) -> None:
        with self._lock:
            now = time.monotonic()
            last = self._said.get(kind)
            if last is not None and now - last < REPEAT_S:
                self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
                return
            self._said[kind] = now
            unsaid = self._unsaid.pop(kind, 0)
        more = f" ({unsaid} more since the last such line)" if unsaid else ""
        self._log.warning("%s [%s]%s", message, kind, more)

    def mended(self, kinds: tuple[str, ...], message: str) -> None:
        """Says that the failures of these kinds are over, if any had been said."""
        if not self._said:
            return
        with self._lock:
            was_failing = not self._said.keys().isdisjoint(kinds)
            for kind in kinds:
                self._said.pop(kind, None)
                self._unsaid.pop(kind, None)
        if was_failing:
            self._log.info("%s", message)
