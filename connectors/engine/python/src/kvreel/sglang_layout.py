"""What a flat page of SGLang's host pool holds."""

from dataclasses import dataclass
from typing import Any

import torch

from .space import Geometry

DTYPES = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32"}
"""Element types that are coded as numbers; others are coded as bytes."""

ORDERS = {"layer_first": "sglang_layer_first", "page_first": "sglang_page_first", "page_first_direct": "sglang_layer_first"}
"""By the pool's layout, for pools with K and V of the same size. `page_first_direct` differs from `layer_first` between pages alone."""


@dataclass(frozen=True)
class Pages:
    """The pages of one pool."""

    geometry: Geometry
    layout: str
    dtype: torch.dtype
    page_tokens: int
    page_bytes: int

    @classmethod
    def of_tensor(cls, page: torch.Tensor) -> "Pages":
        """Of a pool that SGLang has not shown."""
        return cls(_bytes_of(page.dtype, page.nbytes), "unknown", page.dtype, 0, page.nbytes)


def pages_of(pool: Any) -> Pages:
    """Of a host pool as SGLang registers it."""
    page = pool.get_dummy_flat_data_page()
    layout, dtype = str(getattr(pool, "layout", "unknown")), page.dtype
    layers, heads, size = (getattr(pool, name, 0) for name in ("layer_num", "head_num", "head_dim"))
    is_split = heads and size and getattr(pool, "v_head_dim", size) == size
    geometry = _bytes_of(dtype, page.nbytes)
    if dtype in DTYPES and layout in ORDERS and is_split and page.numel() == 2 * layers * pool.page_size * heads * size:
        geometry = Geometry(ORDERS[layout], DTYPES[dtype], layers, heads, size, pool.page_size)
    return Pages(geometry, layout, dtype, pool.page_size, page.nbytes)


def _bytes_of(dtype: torch.dtype, size: int) -> Geometry:
    name, element = DTYPES.get(dtype, "u8"), dtype.itemsize if dtype in DTYPES else 1
    row = 64
    return Geometry.of_bytes(name, row) if size % (row * element) == 0 else Geometry.of_bytes("u8", size)
