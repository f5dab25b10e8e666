"""What a user says in `kv_connector_extra_config`."""

from dataclasses import dataclass, fields
from typing import Any

MIB = 1 << 20


@dataclass(frozen=True)
class Options:
    """Checked settings. Raises ValueError, which stops the engine's start: a wrong setting is better said then than never."""

    address: str
    """The daemon's socket, or `http://host:port`."""
    token_file: str | None = None
    """File with the token that a daemon on TCP wants."""
    chunk_tokens: int = 256
    """Tokens of one stored chunk, a multiple of the engine's block. Fewer find shorter prefixes, more make fewer, larger objects."""
    deadline_ms: int = 5_000
    """Longest time that a request waits for its prefix, lookup and load together, before it is recomputed."""
    store_queue_mib: int = 512
    """Memory for chunks on their way to the daemon. A chunk that finds it full is not stored."""
    model: str | None = None
    """Name that nodes share where they keep the model in different directories. Default: the engine's model."""
    quality: str | None = None
    """Rung of the objects: exact, near or lossy. Default: the daemon's."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Options":
        known = {field.name for field in fields(cls)}
        unknown = set(config) - known
        if unknown:
            raise ValueError(f"kv_connector_extra_config of kvreel knows {', '.join(sorted(known))}, not {', '.join(sorted(unknown))}")
        if not isinstance(config.get("address"), str):
            raise ValueError("kv_connector_extra_config needs `address`: the socket of `kvreel serve`, or http://host:port")
        for name in ("chunk_tokens", "deadline_ms", "store_queue_mib"):
            value = config.get(name, 1)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"expected `{name}` to be a whole number of at least 1, got {value!r}")
        return cls(**config)

    def token(self) -> str | None:
        if self.token_file is None:
            return None
        with open(self.token_file, encoding="utf-8") as file:
            return file.read().strip()
