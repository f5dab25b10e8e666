"""What a user says in `kv_connector_extra_config`."""

from dataclasses import dataclass
from typing import Any

from .params import Params

MIB = 1 << 20


@dataclass(frozen=True)
class Options:
    """Checked settings."""

    address: str
    """The daemon's socket, or `http://host:port`."""
    token: str | None = None
    """What a daemon on TCP wants; read from `token_file`."""
    chunk_tokens: int = 256
    """Tokens of one stored chunk, a multiple of the engine's block. Fewer find shorter prefixes, more make fewer, larger objects."""
    deadline_ms: int = 5_000
    """Longest time that a request waits for its prefix, lookup and load together, before it is recomputed."""
    store_queue_mb: int = 512
    """Memory for chunks on their way to the daemon. A chunk that finds it full is not stored."""
    model: str | None = None
    """Name that nodes share where they keep the model in different directories. Default: the engine's model."""
    quality: str | None = None
    """Rung of the objects: exact, near or lossy. Default: the daemon's."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Options":
        """Raises TypeError or ValueError, which stops the engine's start: a wrong setting is better said then than never."""
        params = Params("kv_connector_extra_config", config)
        options = cls(
            address=params.address(),
            token=params.token(),
            chunk_tokens=params.count("chunk_tokens", cls.chunk_tokens),
            deadline_ms=params.count("deadline_ms", cls.deadline_ms),
            store_queue_mb=params.count("store_queue_mb", cls.store_queue_mb),
            model=params.text("model"),
            quality=params.text("quality"),
        )
        params.refuse_others()
        return options
