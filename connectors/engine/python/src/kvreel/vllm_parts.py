"""Which layers of a model are stored together: those whose pages look alike and are kept for as long."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.model_executor.models.utils import extract_layer_index
from vllm.v1.kv_cache_interface import (
    KVCacheConfig,
    KVCacheGroupSpec,
    KVCacheSpec,
    KVCacheSpecKind,
    UniformTypeKVCacheSpecs,
    get_kv_cache_spec_kind,
    get_kv_cache_spec_sliding_window,
)

from .space import Geometry, Rank, Space
from .vllm_layout import Form, form_of, geometry_of
from .vllm_rope import rope_of

STORABLE = (KVCacheSpecKind.FULL_ATTENTION, KVCacheSpecKind.MLA_ATTENTION, KVCacheSpecKind.SLIDING_WINDOW)
"""Caches that a prefix has chunk by chunk. State that is not one tensor a token (Mamba) is not among them."""


@dataclass(frozen=True)
class Part:
    """Layers stored as one object a chunk, in a space of their own; what the scheduler has to know of them."""

    groups: tuple[int, ...]
    """Cache group of each layer: its block table."""
    window: int | None
    """How far back these layers look, in tokens."""
    model: str
    geometry: Geometry
    variant: str
    rank: Rank | None
    quality: str | None

    def space(self, adapter: str | None, salt: str | None) -> Space:
        return Space(self.model, self.geometry, self.variant, adapter or None, salt or None, self.rank, self.quality)


@dataclass(frozen=True)
class Layer:
    """One layer's pages, on the worker."""

    name: str
    group: int
    pages: torch.Tensor
    """[blocks, kv_heads, block_tokens, content]."""


@dataclass(frozen=True)
class WorkerPart:
    """A part with its tensors."""

    part: Part
    form: Form
    layers: tuple[Layer, ...]
    pages_per_block: int
    """More than one where the attention kernel's blocks are pieces of the engine's."""

    @property
    def page(self) -> tuple[int, ...]:
        return tuple(self.layers[0].pages.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        return self.layers[0].pages.dtype

    @property
    def block_bytes(self) -> int:
        """Of one layer of one engine block."""
        return self.pages_per_block * prod(self.page) * self.dtype.itemsize

    def read(self, layer: int, blocks: Sequence[int]) -> torch.Tensor:
        """One layer of some blocks, as the daemon is to see them."""
        pages = self.layers[layer].pages
        count = self.pages_per_block
        ids = torch.tensor(blocks)[:, None] * count + torch.arange(count)
        return self.form.from_pages(pages[ids.flatten().to(pages.device)])

    def write(self, layer: int, blocks: Sequence[int], data: torch.Tensor) -> None:
        """The inverse of `read`; leaves out blocks with id 0. Done when it returns, on any device."""
        pages = self.layers[layer].pages
        count = self.pages_per_block
        found = data.view(pages.dtype).to(pages.device).view(len(blocks), -1)
        for place, first, length in _runs(blocks):
            self.form.fill_pages(pages[first * count : (first + length) * count], found[place : place + length])
        if pages.is_cuda:
            torch.cuda.current_stream(pages.device).synchronize()


def _runs(blocks: Sequence[int]) -> Iterable[tuple[int, int, int]]:
    """Blocks that follow one another in the cache, as most do: place, id of the first, how many. Blocks with id 0 are in none."""
    begin = 0
    for end in range(1, len(blocks) + 1):
        if end == len(blocks) or blocks[end] != blocks[end - 1] + 1:
            if blocks[begin] == 0:
                begin += 1
            if end > begin:
                yield begin, blocks[begin], end - begin
            begin = end


def unstorable(config: KVCacheConfig) -> str | None:
    """Why the caches of a model cannot be stored, or None."""
    for group in config.kv_cache_groups:
        if group.is_eagle_group:
            return "a draft model shares the cache"
        for spec in _specs(group):
            kind = get_kv_cache_spec_kind(spec)
            if kind not in STORABLE:
                return f"a cache of kind {kind.value} is no tensor a token"
    return None


def parts_of(
    config: VllmConfig, cache: KVCacheConfig, kv_caches: dict[str, torch.Tensor], chunk_tokens: int, model: str, quality: str | None
) -> list[WorkerPart]:
    """The parts of this worker's share of the model."""
    alike: dict[tuple[Any, ...], list[Layer]] = {}
    for index, group in enumerate(cache.kv_cache_groups):
        for name in group.layer_names:
            pages = kv_caches.get(name)
            if pages is not None:
                window = get_kv_cache_spec_sliding_window(_spec(group, name))
                key = (window, tuple(pages.shape[1:]), pages.dtype, *_backend(config, name))
                alike.setdefault(key, []).append(Layer(name, index, pages))
    parts = []
    for (window, page, dtype, backend, isa), layers in alike.items():
        layers.sort(key=lambda layer: extract_layer_index(layer.name))
        group = cache.kv_cache_groups[layers[0].group]
        head_size = getattr(_spec(group, layers[0].name), "head_size", 0)
        form = form_of(backend, isa, page, head_size, dtype)
        rope = rope_of(config.model_config.hf_text_config, window is not None)
        geometry = geometry_of(form, page, dtype, len(layers), rope)
        variant = _variant(config, backend, isa, form, page, layers, chunk_tokens)
        part = Part(tuple(layer.group for layer in layers), window, model, geometry, variant, _rank(config), quality)
        parts.append(WorkerPart(part, form, tuple(layers), group.kv_cache_spec.block_size // page[1]))
    return parts


def _specs(group: KVCacheGroupSpec) -> Iterable[KVCacheSpec]:
    spec = group.kv_cache_spec
    return spec.kv_cache_specs.values() if isinstance(spec, UniformTypeKVCacheSpecs) else (spec,)


def _spec(group: KVCacheGroupSpec, name: str) -> KVCacheSpec:
    spec = group.kv_cache_spec
    return spec.kv_cache_specs[name] if isinstance(spec, UniformTypeKVCacheSpecs) else spec


def _backend(config: VllmConfig, name: str) -> tuple[str, str | None]:
    """The attention backend's name and, on a CPU, the instruction set that decides how it packs K."""
    layer = config.compilation_config.static_forward_context[name]
    return layer.get_attn_backend().get_name(), getattr(layer, "isa", None)


def _rank(config: VllmConfig) -> Rank | None:
    """Tensor- and pipeline-parallel workers hold different parts of a cache."""
    parallel = config.parallel_config
    return Rank(parallel.rank, parallel.world_size) if parallel.world_size > 1 else None


def _variant(
    config: VllmConfig, backend: str, isa: str | None, form: Form, page: tuple[int, ...], layers: list[Layer], chunk_tokens: int
) -> str:
    """What else keeps caches apart: how they were computed, which layers they are, and how long a chunk is."""
    model = config.model_config
    computed = [f"vllm {backend}", f"weights {model.dtype} {model.quantization}", f"cache {config.cache_config.cache_dtype}"]
    if model.revision:
        computed.append(f"revision {model.revision}")
    if form.order == "bytes":
        computed.append(f"packed {isa} {'x'.join(map(str, page))}")
    indices = ",".join(str(extract_layer_index(layer.name)) for layer in layers)
    return "; ".join([*computed, f"chunk {chunk_tokens}", f"layers {indices}"])
