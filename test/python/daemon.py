"""A real daemon over a folder, for the tests: starts, dies, stands still and comes back as they want."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from time import monotonic, sleep

LIMIT_S = 30.0
STORED = re.compile("[0-9a-f]{64}")

CLI = os.environ["KVREEL_CLI"]
"""The built command line; the test that runs these sets it."""


class Daemon:
    """`kvreel serve` on a socket in a folder of its own. Use as a context: at the end nothing is left."""

    def __init__(self, *options: str, environment: dict[str, str] | None = None, within: list[str] | None = None) -> None:
        """`within` is a command that runs the one it is given."""
        self.folder = tempfile.mkdtemp(prefix="kvreel-python-")
        self.socket = os.path.join(self.folder, "socket")
        self.store = os.path.join(self.folder, "store")
        self.url = f"fs://{self.store}"
        """The store of the next start."""
        self._options = options
        self._within = within or []
        self._environment = environment or {}
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.log = ""

    def __enter__(self) -> "Daemon":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        command = [*self._within, "node", CLI, "serve", "--store", self.url, "--socket", self.socket, *self._options]
        environment = {**os.environ, **self._environment}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.log += line
        while not line.startswith("serving "):
            if not line:
                raise RuntimeError(f"the daemon did not start:\n{self.log}")
            line = self._process.stdout.readline()
            self.log += line
        self.port = int(line.rpartition(":")[2]) if "http://" in line else 0
        self._reader = threading.Thread(target=self._drain, args=[self._process.stdout], daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """By SIGKILL, as the kernel does it when memory runs out."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """It answers nothing any more, and its connections stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def objects(self) -> list[str]:
        """The files of what is stored; those that are being written have other names."""
        return [os.path.join(folder, name) for folder, _, names in os.walk(self.store) for name in names if STORED.fullmatch(name)]

    def _drain(self, stream: object) -> None:
        for line in stream:  # type: ignore[attr-defined]
            self.log += line

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        if how is signal.SIGKILL:
            # One that was frozen is not dead before it goes on.
            self._process.send_signal(signal.SIGCONT)
        self._process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None


def until(is_so: Callable[[], bool], what: str) -> None:
    """Waits for what happens in another process."""
    deadline = monotonic() + LIMIT_S
    while not is_so():
        if monotonic() > deadline:
            raise TimeoutError(f"not within {LIMIT_S:.0f} s: {what}")
        sleep(0.01)
