"""Log lines about failures: one when something begins to fail and one when it is well again, not one a key or call."""

import logging
import threading
import time

REPEAT_S = 60.0
"""What goes on failing, or fails and mends by turns, is said again so often."""


class Report:
    """Says each kind of failure, and that they are over, at most once in REPEAT_S. Thread-safe."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}
        self._is_failing = False

    def failed(self, kind: str, message: str) -> None:
        with self._lock:
            self._is_failing = True
            if not self._may_say(kind):
                self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
                return
            unsaid = self._unsaid.pop(kind, 0)
        more = f" ({unsaid} more since the last such line)" if unsaid else ""
        self._log.warning("%s [%s]%s", message, kind, more)

    def mended(self, message: str) -> None:
        """Says that failures are over, if there were any."""
        if not self._is_failing:
            return
        with self._lock:
            was_failing, self._is_failing = self._is_failing, False
            may_say = was_failing and self._may_say("mended")
        if may_say:
            self._log.info("%s", message)

    def _may_say(self, kind: str) -> bool:
        now = time.monotonic()
        last = self._said.get(kind)
        if last is not None and now - last < REPEAT_S:
            return False
        self._said[kind] = now
        return True


def show_logs() -> None:
    """Lets our log lines be seen in a process that has set up logging for itself only."""
    log = logging.getLogger(__package__)
    if log.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
