"""How vLLM's pages of one layer become bytes of a chunk, and back.

vLLM shows every cache as [blocks, kv_heads, block_tokens, content]; what `content` holds is the attention backend's affair. Pages are put
into an order that the daemon understands, K and V apart and a token in a row, because it codes that better; pages of an unknown backend
stay as they are.

On x86 CPUs a page of one head is K as [head_dim][block_tokens], so with a token in a column, then V as [block_tokens][head_dim].
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .space import Geometry, Rope

DTYPES = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32", torch.uint8: "u8"}
"""Element types that are coded as numbers; others are coded as bytes."""

K_THEN_V = ("FLASH_ATTN", "TRITON_ATTN", "FLEX_ATTENTION", "FLASHINFER")
"""Backends whose content is K and then V of one token and head."""

COLUMNS_OF_K = ("vec", "vec16")
"""Instruction sets of the CPU backend under which K lies in columns."""


@dataclass(frozen=True)
class Form:
    """One order of the daemon's, and the ways into and out of it for the pages of some blocks of one layer."""

    order: str
    from_pages: Callable[[torch.Tensor], torch.Tensor]
    fill_pages: Callable[[torch.Tensor, torch.Tensor], object]
    """The inverse: copies the chunk's elements, given second, into the pages, without memory of its own."""


def form_of(backend: str, isa: str | None, page: tuple[int, ...], head_size: int, dtype: torch.dtype) -> Form:
    """The form for pages of shape [kv_heads, block_tokens, content]."""
    heads, _, content = page
    is_plain = dtype in DTYPES and dtype != torch.uint8
    if is_plain and backend == "CPU_ATTN" and isa in COLUMNS_OF_K and content == 2 * head_size:
        return Form("vllm_cpu_pages", _rows_of_cpu_pages, _fill_cpu_pages)
    if is_plain and backend in K_THEN_V and content == 2 * head_size:
        return Form("fused", _tokens_of_pages, _fill_pages)
    if is_plain and heads == 1 and content == head_size:
        return Form("mla", _tokens_of_pages, _fill_pages)
    return Form("bytes", lambda pages: pages, lambda pages, data: pages.copy_(data.view(pages.shape)))


def geometry_of(form: Form, page: tuple[int, ...], dtype: torch.dtype, layers: int, rope: Rope | None) -> Geometry:
    """What the daemon is told of a chunk in this form. Content of other types is told in bytes."""
    heads, block_tokens, content = page
    name = DTYPES.get(dtype)
    if form.order == "bytes":
        return Geometry.of_bytes(name or "u8", content if name else content * dtype.itemsize)
    if form.order == "mla":
        return Geometry("mla", str(name), layers, 1, content)
    return Geometry(form.order, str(name), layers, heads, content // 2, block_tokens if form.order == "vllm_cpu_pages" else None, rope)


def _rows_of_cpu_pages(pages: torch.Tensor) -> torch.Tensor:
    """[blocks, heads, 2, block_tokens, head_dim]."""
    blocks, heads, tokens, content = pages.shape
    halves = pages.reshape(blocks, heads, 2, -1)
    keys = halves[:, :, 0].reshape(blocks, heads, content // 2, tokens).transpose(2, 3)
    values = halves[:, :, 1].reshape(blocks, heads, tokens, content // 2)
    return torch.stack((keys, values), dim=2)


def _fill_cpu_pages(pages: torch.Tensor, data: torch.Tensor) -> None:
    blocks, heads, tokens, content = pages.shape
    rows = data.view(blocks, heads, 2, tokens, content // 2)
    halves = pages.view(blocks, heads, 2, -1)
    halves[:, :, 0].view(blocks, heads, content // 2, tokens).copy_(rows[:, :, 0].transpose(2, 3))
    halves[:, :, 1].view(blocks, heads, tokens, content // 2).copy_(rows[:, :, 1])


def _tokens_of_pages(pages: torch.Tensor) -> torch.Tensor:
    """[blocks, block_tokens, heads, content]."""
    return pages.transpose(1, 2)


def _fill_pages(pages: torch.Tensor, data: torch.Tensor) -> None:
    blocks, heads, tokens, content = pages.shape
    pages.copy_(data.view(blocks, tokens, heads, content).transpose(1, 2))
