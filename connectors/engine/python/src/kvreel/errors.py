"""What can go wrong between the client and the daemon, each with a stable code. None of these leaves the client's calls."""


class KvreelError(Exception):
    """A call failed; `code` is the daemon's KV_... code, or one of those below for what never reached the daemon."""

    def __init__(self, code: str, message: str, status: int = 0, is_gone: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        """HTTP status of the answer, 0 without one."""
        self.is_gone = is_gone
        """There is no daemon any more, so nothing of ours is being worked on."""


UNREACHABLE = "KV_CONNECTOR_UNAVAILABLE"
"""No daemon answers at the address, or it went away during the call."""

TIMEOUT = "KV_CONNECTOR_TIMEOUT"
"""The call's deadline passed before the answer ended."""

PROTOCOL = "KV_PROTOCOL"
"""The answer is not what docs/daemon.md says: the other end is no kvreel daemon, or one of another version."""

UNKNOWN_SPACE = "KV_UNKNOWN_SPACE"
"""The daemon was restarted since the space was registered."""

STALE_SEGMENT = "KV_STALE_SEGMENT"
"""The daemon no longer maps the segment: its lease ran out, or the daemon was restarted."""
