"""What LMCache's tensors are: from shapes and dtypes, which LMCache tells, and heads and order, which it does not and the user states.

A chunk of LMCache is the concatenation of one tensor a kernel group. Only the layout of a single one is understood; the rest, and all that does
not agree with what the user stated, is kept losslessly as bytes.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

from .space import DTYPE_BYTES, Geometry, Rope

DTYPES = {
    "torch.bfloat16": "bf16",
    "torch.float16": "f16",
    "torch.float32": "f32",
    "torch.float8_e4m3fn": "f8_e4m3",
    "torch.float8_e5m2": "f8_e5m2",
    "torch.uint8": "u8",
}
"""By torch's name, so that torch need not be imported. The fnuz kinds of float8 are others and go as bytes."""

ORDERS = ("fused", "vllm_cpu_rows", "lmcache_2ltd", "mla")
"""Orders that LMCache's chunks can have."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Group:
    """One tensor of a chunk."""

    shape: tuple[int, ...]
    dtype: str
    """As torch names it."""

    def __str__(self) -> str:
        return f"{self.dtype.removeprefix('torch.')}{list(self.shape)}".replace(" ", "")


Layout = tuple[Group, ...]


@dataclass(frozen=True)
class Stated:
    """What the user states of the engine's tensors: the parameters of both LMCache seams. `order` None means nothing."""

    order: str | None = None
    kv_heads: int = 0
    head_dim: int = 0
    block_tokens: int | None = None
    rope: Rope | None = None
    quality: str | None = None
    """None leaves it to the daemon."""

    PARAMETERS = ("order", "kv_heads", "head_dim", "block_tokens", "rope", "quality")

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> "Stated":
        """Raises TypeError or ValueError for what cannot be."""
        rope = params.get("rope")
        stated = cls(
            params.get("order"),
            params.get("kv_heads", 0),
            params.get("head_dim", 0),
            params.get("block_tokens"),
            None if rope is None else Rope.from_json(rope),
            params.get("quality"),
        )
        if stated.order is None:
            if stated.kv_heads or stated.head_dim or stated.block_tokens or stated.rope:
                raise ValueError(f"expected order with kv_heads, head_dim, block_tokens and rope: one of {', '.join(ORDERS)}")
            return stated
        if stated.order not in ORDERS:
            raise ValueError(f"expected order to be one of {', '.join(ORDERS)}, got {stated.order!r}")
        # Its checks are the ones wanted; the numbers that LMCache tells do not matter to them.
        Geometry(stated.order, "bf16", 1, stated.kv_heads, stated.head_dim, stated.block_tokens)
        if stated.order == "mla" and stated.kv_heads != 1:
            raise ValueError(f"expected kv_heads to be 1 with order mla, got {stated.kv_heads}")
        return stated


class Layouts:
    """The geometry of each layout that comes by. Thread-safe; the first that is kept as bytes is a warning, which says why."""

    def __init__(self, stated: Stated) -> None:
        self._stated = stated
        self._lock = threading.Lock()
        self._has_warned = False

    def geometry(self, layout: Layout) -> Geometry:
        try:
            return understood(layout, self._stated)
        except ValueError as error:
            with self._lock:
                level, self._has_warned = (logging.DEBUG if self._has_warned else logging.WARNING), True
            tensors = " + ".join(str(group) for group in layout)
            log.log(level, "%s; tensors of %s are kept losslessly as bytes, which compresses less", error, tensors)
            return as_bytes(layout)

    def quality(self, geometry: Geometry) -> str | None:
        """Bytes are never anything but exact."""
        return "exact" if geometry.order == "bytes" else self._stated.quality


def understood(layout: Layout, stated: Stated) -> Geometry:
    """The geometry of a layout that agrees with what was stated. Raises ValueError with the reason where it does not."""
    if stated.order is None:
        raise ValueError("no order, kv_heads and head_dim are configured")
    if len(layout) != 1:
        raise ValueError(f"a chunk of {len(layout)} tensors is not understood")
    shape, dtype = layout[0].shape, DTYPES.get(layout[0].dtype)
    if dtype is None:
        raise ValueError(f"dtype {layout[0].dtype} is not known")
    planes = 2 if stated.order == "lmcache_2ltd" else 1
    # The multiprocess mode leaves out the first dimension where it is 1.
    if len(shape) == 3 and planes == 1:
        shape = (1, *shape)
    row = stated.kv_heads * stated.head_dim * (2 if stated.order in ("fused", "vllm_cpu_rows") else 1)
    if len(shape) != 4 or shape[0] != planes or shape[3] != row:
        raise ValueError(
            f"order {stated.order} with {stated.kv_heads} kv_heads of {stated.head_dim} needs [{planes}, layers, tokens, {row}]"
        )
    layers, tokens = shape[1], shape[2]
    if stated.block_tokens is not None and tokens % stated.block_tokens != 0:
        raise ValueError(f"{tokens} tokens are no multiple of block_tokens {stated.block_tokens}")
    if stated.rope is not None and isinstance(stated.rope.theta, tuple) and len(stated.rope.theta) != layers:
        raise ValueError(f"rope has {len(stated.rope.theta)} thetas for {layers} layers")
    return Geometry(stated.order, dtype, layers, stated.kv_heads, stated.head_dim, stated.block_tokens, stated.rope)


def as_bytes(layout: Layout) -> Geometry:
    """Rows as long as all tensors' innermost rows allow, of their element type where they share one that is known."""
    dtypes = {DTYPES.get(group.dtype) for group in layout}
    dtype = dtypes.pop() if len(dtypes) == 1 else None
    if dtype is not None:
        return Geometry.of_bytes(dtype, gcd(*(_row(group) for group in layout)))
    return Geometry.of_bytes("u8", gcd(*(_row(group) * _element_bytes(group.dtype) for group in layout)))


def layout_of(shapes: Sequence[Sequence[int]], dtypes: Sequence[Any]) -> Layout:
    """From torch's shapes and dtypes."""
    return tuple(Group(tuple(shape), str(dtype)) for shape, dtype in zip(shapes, dtypes, strict=True))


def layout_of_object(memory: Any) -> Layout:
    """The layout of a MemoryObj of LMCache."""
    metadata = memory.metadata
    if metadata.shapes and metadata.dtypes:
        return layout_of(metadata.shapes, metadata.dtypes)
    return layout_of([metadata.shape], [metadata.dtype])


def _row(group: Group) -> int:
    if len(group.shape) > 1:
        return group.shape[-1]
    # One dimension says nothing of rows.
    return gcd(prod(group.shape), 128)


def _element_bytes(dtype: str) -> int:
    known = DTYPES.get(dtype)
    if known is not None:
        return DTYPE_BYTES[known]
    digits = "".join(character for character in dtype.rpartition("_")[0] or dtype if character.isdigit())
    return int(digits) // 8 if digits in ("8", "16", "32", "64") else 1
