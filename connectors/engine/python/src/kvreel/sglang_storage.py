"""SGLang's HiCache storage, a `dynamic` backend: `"module_path": "kvreel.sglang_storage", "class_name": "KvreelHiCache"`.

SGLang calls it on threads of its own, with one page of the host pool or up to 128. Nothing raises: what fails is a miss.
"""

import hashlib
import logging
import re
import time
from collections.abc import Sequence
from typing import Any

import torch
from sglang.srt.mem_cache.hicache_storage import HiCacheStorage, HiCacheStorageConfig, HiCacheStorageExtraInfo

from .client import Client
from .edge import never_raises
from .params import Params
from .report import Report
from .sglang_layout import Pages, pages_of
from .space import Rank, Space

SGLANG_FIELDS = ("backend_name", "module_path", "class_name", "interface_v1")
"""What SGLang's own factory reads of the same object."""

WAIT_MS = 100
"""How long the daemon may hold one answer back while it looks at the store."""

STORE_DEADLINE_MS = 30_000

HEX = re.compile(r"(?:[0-9a-f]{2}){1,64}")

log = logging.getLogger(__name__)
_report = Report(log)


class KvreelHiCache(HiCacheStorage):
    """`address`, `token_file`, `deadline_ms` (of a look, and of a load; default 2000), `model`, `quality` beside SGLang's own fields."""

    def __init__(self, storage_config: HiCacheStorageConfig, kwargs: dict[str, Any] | None = None) -> None:
        given = {name: value for name, value in (storage_config.extra_config or {}).items() if name not in SGLANG_FIELDS}
        params = Params("hicache-storage-backend-extra-config", given)
        self._config = storage_config
        self._client = Client(params.address(), params.token())
        self._deadline_ms = params.count("deadline_ms", 2_000)
        self._model = params.text("model") or storage_config.model_name or ""
        self._quality = params.text("quality")
        # SGLang adds settings of its own to the object from version to version: others are not refused here.
        self._pages: Pages | None = None

    def register_mem_pool_host(self, mem_pool_host: Any) -> None:
        super().register_mem_pool_host(mem_pool_host)
        self._pages = pages_of(mem_pool_host)
        if self._pages.geometry.order == "bytes":
            log.warning("pages of SGLang's %s pool are kept losslessly as bytes: their layout is not understood", self._pages.layout)

    @never_raises(_report, lambda keys, *rest: [False] * len(keys))
    def batch_get_v1(self, keys: list[str], host_indices: torch.Tensor, extra_info: HiCacheStorageExtraInfo | None = None) -> list[bool]:
        pages = self._known_pages()
        buffer = torch.empty((len(keys), pages.page_bytes), dtype=torch.uint8)
        found = self._fetch(pages, keys, buffer)
        for place, is_found in enumerate(found):
            if is_found:
                data = buffer[place].view(pages.dtype)
                self.mem_pool_host.set_from_flat_data_page(int(host_indices[place * pages.page_tokens]), data)
        return found

    @never_raises(_report, lambda keys, *rest: [False] * len(keys))
    def batch_set_v1(self, keys: list[str], host_indices: torch.Tensor, extra_info: HiCacheStorageExtraInfo | None = None) -> list[bool]:
        pages = self._known_pages()
        values = [self.mem_pool_host.get_data_page(int(host_indices[place * pages.page_tokens])) for place in range(len(keys))]
        return self._store(pages, keys, values)

    @never_raises(_report, lambda *rest: None)
    def get(self, key: str, target_location: torch.Tensor | None = None, target_sizes: Any = None) -> torch.Tensor | None:
        return self.batch_get([key], [target_location])[0]

    @never_raises(_report, lambda keys, *rest: [None] * len(keys))
    def batch_get(
        self, keys: list[str], target_locations: Sequence[torch.Tensor | None] | None = None, target_sizes: Any = None
    ) -> list[torch.Tensor | None]:
        """Into the tensors that SGLang gives; without one a page is a miss, as its size is not known."""
        results: list[torch.Tensor | None] = [None] * len(keys)
        targets = {place: target for place, target in enumerate(target_locations or []) if target is not None}
        if not targets:
            return results
        pages = self._pages or Pages.of_tensor(next(iter(targets.values())))
        buffer = torch.empty((len(targets), pages.page_bytes), dtype=torch.uint8)
        found = self._fetch(pages, [keys[place] for place in targets], buffer)
        for row, (place, target) in enumerate(targets.items()):
            if found[row]:
                target.copy_(buffer[row].view(target.dtype).view(target.shape))
                results[place] = target
        return results

    @never_raises(_report, lambda *rest: False)
    def set(self, key: str, value: torch.Tensor | None = None, target_location: Any = None, target_sizes: Any = None) -> bool:
        return value is not None and self.batch_set([key], [value])

    @never_raises(_report, lambda *rest: False)
    def batch_set(
        self, keys: list[str], values: Sequence[torch.Tensor] | None = None, target_locations: Any = None, target_sizes: Any = None
    ) -> bool:
        if not values:
            return False
        return all(self._store(self._pages or Pages.of_tensor(values[0]), keys, values))

    @never_raises(_report, lambda *rest: False)
    def exists(self, key: str) -> bool:
        return self.batch_exists([key]) == 1

    @never_raises(_report, lambda *rest: 0)
    def batch_exists(self, keys: list[str], extra_info: HiCacheStorageExtraInfo | None = None) -> int:
        """How many pages are there without a gap from the first on."""
        if self._pages is None:
            return 0
        deadline = time.monotonic() + self._deadline_ms / 1000
        hashes, space = _hashes(keys), self._space(self._pages)
        while True:
            left_ms = (deadline - time.monotonic()) * 1000
            if left_ms <= 0:
                return 0
            hits = self._client.lookup(space, hashes, int(min(WAIT_MS, left_ms)), left_ms)
            prefix = len(hits) - len(hits.lstrip("1"))
            if prefix == len(hits) or hits[prefix] == "0":
                return prefix

    def close(self) -> None:
        self._client.close()

    def _known_pages(self) -> Pages:
        if self._pages is None:
            raise RuntimeError("SGLang has not registered its host pool")
        return self._pages

    def _fetch(self, pages: Pages, keys: Sequence[str], buffer: torch.Tensor) -> list[bool]:
        entries = [(hash, memoryview(buffer[row].numpy()).cast("B")) for row, hash in enumerate(_hashes(keys))]
        return self._client.fetch(self._space(pages), entries, self._deadline_ms)

    def _store(self, pages: Pages, keys: Sequence[str], values: Sequence[torch.Tensor]) -> list[bool]:
        flat = [value.detach().contiguous().cpu().view(-1).view(torch.uint8) for value in values]
        entries = [(hash, memoryview(data.numpy()).cast("B"), None) for hash, data in zip(_hashes(keys), flat, strict=True)]
        return self._client.store(self._space(pages), entries, STORE_DEADLINE_MS)

    def _space(self, pages: Pages) -> Space:
        config = self._config
        # Of an MLA model every worker of a group holds the same.
        tp, of = (config.dcp_rank, config.dcp_size) if config.is_mla_model else (config.tp_rank, config.tp_size)
        ranks, index = of * config.pp_size, config.pp_rank * of + tp
        parts = ["sglang", f"page {pages.page_tokens}", f"cache {pages.dtype}", f"cp {config.attn_cp_rank}/{config.attn_cp_size}"]
        if pages.geometry.order == "bytes":
            parts.append(f"layout {pages.layout} {pages.page_bytes}")
        rank = Rank(index, ranks) if ranks > 1 else None
        return Space(self._model, pages.geometry, "; ".join(parts), rank=rank, quality=self._quality)


def _hashes(keys: Sequence[str]) -> list[str]:
    """SGLang's page hashes; keys of another form, as those with a suffix, by their own digest."""
    return [key if HEX.fullmatch(key) else hashlib.sha256(key.encode()).hexdigest() for key in keys]
