"""Contract tests: the classes that engines load, through the engines' own factories, against a daemon whose socket is in KVREEL_SOCKET."""

import os
import time
from collections.abc import Callable

import pytest


@pytest.fixture
def address() -> str:
    return os.environ["KVREEL_SOCKET"]


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits until something is so; fails if it is not within 20 s."""

    def wait(is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not is_so():
            assert time.monotonic() < deadline, "not in time"
            time.sleep(0.005)

    return wait
