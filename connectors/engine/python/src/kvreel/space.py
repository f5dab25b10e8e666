"""What tells two caches of the same tokens apart, as the daemon registers it: model, layout, adapter, salt, rank, quality."""

from dataclasses import dataclass
from typing import Any

DTYPE_BYTES = {"bf16": 2, "f16": 2, "f32": 4, "f8_e4m3": 1, "f8_e5m2": 1, "u8": 1}
"""Bytes of one element of each dtype the daemon knows."""

ORDERS = (
    "split",
    "fused",
    "lmcache_2ltd",
    "mla",
    "vllm_cpu_pages",
    "vllm_cpu_rows",
    "sglang_layer_first",
    "sglang_page_first",
    "bytes",
)
"""How the elements of a chunk may lie in memory; docs/api.md says what each means."""

PAGED_ORDERS = ("vllm_cpu_pages", "vllm_cpu_rows", "sglang_layer_first", "sglang_page_first")
"""Orders that need `block_tokens`."""


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding that was applied to K."""

    theta: float | tuple[float, ...]
    """Base of the frequencies: one for all layers, or one a layer."""
    style: str = "half"
    """`half` pairs dim i with i + rotary_dims / 2 (Llama, Qwen, Gemma); `interleaved` pairs 2i with 2i + 1 (GPT-J)."""
    rotary_dims: int | None = None
    """How many leading dims of a head are rotated; None means all."""

    def __post_init__(self) -> None:
        if isinstance(self.theta, list):
            object.__setattr__(self, "theta", tuple(self.theta))
        if self.style not in ("half", "interleaved"):
            raise ValueError(f"expected rope.style to be half or interleaved, got {self.style!r}")

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Rope":
        """From `{"theta": 100000, "style": "half", "rotary_dims"?: n}`. Raises TypeError or ValueError for anything else."""
        _refuse_unknown("rope", value, ("theta", "style", "rotary_dims"))
        if "theta" not in value:
            raise ValueError("expected rope to have theta")
        return cls(**value)

    def to_json(self) -> dict[str, Any]:
        theta = list(self.theta) if isinstance(self.theta, tuple) else self.theta
        return _without_none({"theta": theta, "style": self.style, "rotary_dims": self.rotary_dims})


@dataclass(frozen=True)
class Geometry:
    """Layout of a chunk, without its number of tokens. Raises ValueError for what cannot be."""

    order: str
    dtype: str
    layers: int
    kv_heads: int
    head_dim: int
    block_tokens: int | None = None
    rope: Rope | None = None

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"expected order to be one of {', '.join(ORDERS)}, got {self.order!r}")
        if self.dtype not in DTYPE_BYTES:
            raise ValueError(f"expected dtype to be one of {', '.join(DTYPE_BYTES)}, got {self.dtype!r}")
        for name in ("layers", "kv_heads", "head_dim"):
            _check_count(name, getattr(self, name))
        if self.block_tokens is not None:
            _check_count("block_tokens", self.block_tokens)
        elif self.order in PAGED_ORDERS:
            raise ValueError(f"expected block_tokens with order {self.order}: the tokens of one engine block")

    @property
    def token_bytes(self) -> int:
        """Bytes of one token over all layers, K and V."""
        planes = 1 if self.order in ("mla", "bytes") else 2
        return DTYPE_BYTES[self.dtype] * self.layers * planes * self.kv_heads * self.head_dim

    @classmethod
    def of_bytes(cls, dtype: str, row: int) -> "Geometry":
        """A layout that is not understood: rows of `row` elements, coded losslessly."""
        return cls("bytes", dtype, 1, 1, row)

    def to_json(self) -> dict[str, Any]:
        rope = self.rope.to_json() if self.rope else None
        fields = {"order": self.order, "dtype": self.dtype, "layers": self.layers, "kv_heads": self.kv_heads, "head_dim": self.head_dim}
        return _without_none({**fields, "block_tokens": self.block_tokens, "rope": rope})


@dataclass(frozen=True)
class Rank:
    """Which part of a tensor-parallel model the tensors are."""

    index: int
    of: int


@dataclass(frozen=True)
class Space:
    """Everything but the hash that identifies a chunk. Tensors of different spaces never meet."""

    model: str
    geometry: Geometry
    variant: str | None = None
    """Anything else that has to keep caches apart: the engine's page format, the tensor shape of an unknown layout."""
    adapter: str | None = None
    salt: str | None = None
    """A tenant's secret: without it nobody finds the tenant's chunks."""
    rank: Rank | None = None
    quality: str | None = None
    """Rung of the objects; None leaves it to the daemon."""

    def to_json(self) -> dict[str, Any]:
        rank = {"index": self.rank.index, "of": self.rank.of} if self.rank else None
        fields = {"model": self.model, "geometry": self.geometry.to_json(), "variant": self.variant, "adapter": self.adapter}
        return _without_none({**fields, "salt": self.salt, "rank": rank, "quality": self.quality})


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"expected {name} to be a whole number of at least 1, got {value!r}")


def _refuse_unknown(name: str, value: Any, known: tuple[str, ...]) -> None:
    if not isinstance(value, dict):
        raise TypeError(f"expected {name} to be an object, got {value!r}")
    unknown = set(value) - set(known)
    if unknown:
        raise ValueError(f"expected {name} to have only {', '.join(known)}, got {', '.join(sorted(unknown))}")


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
