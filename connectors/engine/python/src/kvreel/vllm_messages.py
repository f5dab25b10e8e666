"""What the scheduler's half of the connector tells the workers' halves, and they it. Goes between processes."""

from dataclasses import dataclass, field

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorHandshakeMetadata, KVConnectorMetadata

from .vllm_parts import Part


@dataclass(frozen=True)
class Load:
    """Chunks to bring into the blocks of one request."""

    request: str
    adapter: str | None
    salt: str | None
    first: int
    """Number of the first chunk, counted from the prompt's begin."""
    hashes: tuple[str, ...]
    begin: int
    """First token to load: inside of the first chunk where the engine has its head already."""
    blocks: tuple[tuple[int, ...], ...]
    """Block ids of each cache group from the prompt's begin on; 0 stands for a block that nobody needs."""
    deadline_s: float
    """From now on."""
    is_layerwise: bool
    """The request runs in this step; otherwise between steps, and is told by get_finished."""


@dataclass(frozen=True)
class Save:
    """A chunk that is complete after this step."""

    adapter: str | None
    salt: str | None
    hash: str
    start: int
    """Position of its first token."""
    blocks: tuple[tuple[int, ...], ...]
    """The chunk's block ids of each cache group."""


@dataclass
class StepMetadata(KVConnectorMetadata):
    """Of one step of the engine."""

    loads: list[Load] = field(default_factory=list)
    saves: list[Save] = field(default_factory=list)
    failures_known: int = 0
    """How many steps with failed loads the scheduler knew of when it made this one. Later ones computed with blocks that hold garbage."""


@dataclass
class Handshake(KVConnectorHandshakeMetadata):
    """What a worker found its caches to be."""

    parts: list[Part]
