"""Remote connector of LMCache's in-process mode: `remote_storage_plugins: ["kvreel"]`, or `remote_url: kvreel://...`.

LMCache asks for a key without saying how large the chunk is. A chunk that fills LMCache's own shape is stored by its hash alone; of any other (the
partial chunk at a prompt's end, the layers of layerwise mode) a small record is stored as well, which says shape, dtype and format.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

import torch
from lmcache.utils import CacheEngineKey
from lmcache.v1.memory_management import MemoryFormat, MemoryObj
from lmcache.v1.storage_backend.connector import ConnectorAdapter, ConnectorContext
from lmcache.v1.storage_backend.connector.base_connector import RemoteConnector

from .client import Client
from .lmcache_layout import Layout, Layouts, Stated, layout_of
from .params import Params
from .report import show_logs
from .space import Geometry, Rank, Space

T = TypeVar("T")

THREADS = 8
URL = "kvreel://"
PLUGIN = "plugin://"
NAME = "kvreel"

RECORD_BYTES = 512
"""A record is JSON with spaces behind it up to this length: a daemon is asked for tensors of a known length."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """Parameters: of the plugin's `remote_storage_plugin.NAME.` entries in LMCache's extra_config."""

    address: str
    token: str | None
    stated: Stated
    adapter: str | None
    variant: str | None
    lookup_deadline_ms: int
    load_deadline_ms: int
    store_deadline_ms: int

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Options":
        params = Params("remote_storage_plugin.kvreel", values)
        options = cls(
            address=params.address(),
            token=params.token(),
            stated=Stated.from_params({name: values[name] for name in Stated.PARAMETERS if name in values}),
            adapter=params.text("adapter"),
            variant=params.text("variant"),
            lookup_deadline_ms=params.count("lookup_deadline_ms", 500),
            load_deadline_ms=params.count("load_deadline_ms", 5_000),
            store_deadline_ms=params.count("store_deadline_ms", 30_000),
        )
        params.refuse_others((*Stated.PARAMETERS, "module_path", "class_name"))
        return options


class KvreelConnectorAdapter(ConnectorAdapter):
    """What LMCache makes the connector by; the `class_name` of the plugin."""

    def __init__(self) -> None:
        super().__init__(URL)

    def can_parse(self, url: str) -> bool:
        return url.startswith(URL) or (url.startswith(PLUGIN) and url[len(PLUGIN) :].partition(".")[0] == NAME)

    def create_connector(self, context: ConnectorContext) -> RemoteConnector:
        prefix = f"remote_storage_plugin.{context.plugin_name or NAME}."
        extra = (context.config.extra_config if context.config else None) or {}
        values = {name.removeprefix(prefix): value for name, value in extra.items() if name.startswith(prefix)}
        if context.url.startswith(URL):
            values["address"] = _address_of(context.url)
        return KvreelConnector(context, Options.of(values))


@dataclass(frozen=True)
class _Form:
    """All that LMCache has to know to allocate a chunk."""

    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]
    fmt: MemoryFormat

    @classmethod
    def of(cls, memory: MemoryObj) -> "_Form":
        return cls(tuple(memory.get_shapes()), tuple(memory.get_dtypes()), memory.get_memory_format())

    @classmethod
    def unpacked(cls, record: bytearray) -> "_Form | None":
        """None for a record that makes no sense, which only another version can have written."""
        try:
            fields = json.loads(record)
            shapes = tuple(torch.Size(shape) for shape in fields["shapes"])
            dtypes = tuple(getattr(torch, name) for name in fields["dtypes"])
            return cls(shapes, dtypes, MemoryFormat(fields["format"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("a record of a chunk's shape makes no sense and counts as a miss: %s", error)
            return None

    def packed(self) -> memoryview:
        dtypes = [str(dtype).removeprefix("torch.") for dtype in self.dtypes]
        fields = {"shapes": [list(shape) for shape in self.shapes], "dtypes": dtypes, "format": self.fmt.value}
        return memoryview(json.dumps(fields).encode().ljust(RECORD_BYTES))

    @property
    def layout(self) -> Layout:
        return layout_of(self.shapes, self.dtypes)


class KvreelConnector(RemoteConnector):
    """Keeps LMCache's chunks in a kvreel daemon. What goes wrong is a miss; nothing is raised."""

    def __init__(self, context: ConnectorContext, options: Options) -> None:
        super().__init__(context.config, context.metadata)
        show_logs()
        self._options = options
        self._memory = context.local_cpu_backend
        self._client = Client(options.address, options.token)
        self._layouts = Layouts(options.stated)
        self._threads = ThreadPoolExecutor(THREADS, "kvreel-remote")
        self._full = _Form(tuple(self.meta_shapes), tuple(self.meta_dtypes), self.meta_fmt)
        self._space_of = lru_cache(maxsize=4096)(self._make_space)
        self._keys: dict[Space, CacheEngineKey] = {}
        """Each space used, with one of its keys: what it takes to name the daemon's hashes as LMCache does."""

    async def exists(self, key: CacheEngineKey) -> bool:
        return await self._run(lambda: self.exists_sync(key))

    def exists_sync(self, key: CacheEngineKey) -> bool:
        return self.batched_contains([key]) == 1

    def support_batched_contains(self) -> bool:
        return True

    def batched_contains(self, keys: list[CacheEngineKey]) -> int:
        found = self._are_full(keys)
        rest = [place for place, is_full in enumerate(found) if not is_full]
        for place, has_record in zip(rest, self._have_records([keys[place] for place in rest]), strict=True):
            found[place] = has_record
        return found.index(False) if False in found else len(found)

    async def batched_async_contains(self, lookup_id: str, keys: list[CacheEngineKey], pin: bool = False) -> int:
        return await self._run(lambda: self.batched_contains(keys))

    async def get(self, key: CacheEngineKey) -> MemoryObj | None:
        return (await self.batched_get([key]))[0]

    def support_batched_get(self) -> bool:
        return True

    async def batched_get(self, keys: list[CacheEngineKey]) -> list[MemoryObj | None]:
        return await self._run(lambda: self._fetch(keys), _release)

    async def batched_get_non_blocking(self, lookup_id: str, keys: list[CacheEngineKey]) -> list[MemoryObj]:
        objects = await self.batched_get(keys)
        count = objects.index(None) if None in objects else len(objects)
        _release(objects[count:])
        return [memory for memory in objects[:count] if memory is not None]

    async def put(self, key: CacheEngineKey, memory_obj: MemoryObj) -> None:
        # Not batched: LMCache keeps no account of batched puts, so that it would ask for chunks it is still storing. And its wrapper gives the
        # object back afterwards, so that is not done here.
        await self._run(lambda: self._store(key, memory_obj))

    def remove_sync(self, key: CacheEngineKey) -> bool:
        deleted = [self._client.delete(space, [key.chunk_hash_hex]) for space in (self._space(key, self._full), self._record_space(key))]
        return any(deleted)

    def support_ping(self) -> bool:
        return True

    async def ping(self) -> int:
        return await self._run(lambda: 0 if self._client.is_ready(self._options.lookup_deadline_ms) else 1)

    async def close(self) -> None:
        self._client.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T], discard: Callable[[T], None] | None = None) -> T:
        """On a thread, to its end even where LMCache gives up waiting: its memory is in use until then."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if discard is not None and not future.cancelled() and future.exception() is None:
                discard(future.result())
            raise

    def _fetch(self, keys: Sequence[CacheEngineKey]) -> list[MemoryObj | None]:
        forms: list[_Form | None] = [self._full if is_full else None for is_full in self._are_full(keys)]
        rest = [place for place, form in enumerate(forms) if form is None]
        for place, form in zip(rest, self._records([keys[place] for place in rest]), strict=True):
            forms[place] = form
        objects = [None if form is None else self._allocate(form) for form in forms]
        for space, places in self._by_space(keys, forms).items():
            there = [(place, memory) for place in places if (memory := objects[place]) is not None]
            entries = [(keys[place].chunk_hash_hex, memory.byte_array) for place, memory in there]
            results = self._client.fetch(space, entries, self._options.load_deadline_ms)
            for (place, memory), is_hit in zip(there, results, strict=True):
                if not is_hit:
                    memory.ref_count_down()
                    objects[place] = None
        return objects

    def _store(self, key: CacheEngineKey, memory: MemoryObj) -> None:
        form = _Form.of(memory)
        by = self._options.store_deadline_ms
        is_stored = self._client.store(self._space(key, form), [(key.chunk_hash_hex, memory.byte_array, None)], by)[0]
        # The record last: without its chunk it would be found and then missed.
        if is_stored and form != self._full:
            self._client.store(self._record_space(key), [(key.chunk_hash_hex, form.packed(), None)], by)

    def _are_full(self, keys: Sequence[CacheEngineKey]) -> list[bool]:
        return self._lookup(keys, [self._space(key, self._full) for key in keys])

    def _have_records(self, keys: Sequence[CacheEngineKey]) -> list[bool]:
        return self._lookup(keys, [self._record_space(key) for key in keys])

    def _lookup(self, keys: Sequence[CacheEngineKey], spaces: Sequence[Space]) -> list[bool]:
        found = [False] * len(keys)
        limit = self._options.lookup_deadline_ms
        for space, places in _grouped(spaces).items():
            hits = self._client.lookup(space, [keys[place].chunk_hash_hex for place in places], limit * 9 // 10, limit)
            for place, hit in zip(places, hits, strict=True):
                found[place] = hit == "1"
        return found

    def _records(self, keys: Sequence[CacheEngineKey]) -> list[_Form | None]:
        forms: list[_Form | None] = [None] * len(keys)
        there = [place for place, has_record in enumerate(self._have_records(keys)) if has_record]
        for space, places in _grouped([self._record_space(keys[place]) for place in there]).items():
            packed = [bytearray(RECORD_BYTES) for _ in places]
            entries = [(keys[there[place]].chunk_hash_hex, memoryview(into)) for place, into in zip(places, packed, strict=True)]
            results = self._client.fetch(space, entries, self._options.load_deadline_ms)
            for place, into, is_hit in zip(places, packed, results, strict=True):
                forms[there[place]] = _Form.unpacked(into) if is_hit else None
        return forms

    def _allocate(self, form: _Form) -> MemoryObj | None:
        # Never waits for memory: LMCache waits for us, and a miss is better.
        return self._memory.allocate(list(form.shapes), list(form.dtypes), form.fmt, busy_loop=False)

    def _list(self) -> list[str]:
        names: list[str] = []
        for space, sample in list(self._keys.items()):
            head = f"{sample.model_name}@{sample.world_size}@{sample.worker_id}@"
            tail = sample.to_string()[len(head) + len(sample.chunk_hash_hex) :]
            cursor: str | None = None
            while (page := self._client.keys(space, cursor=cursor)) is not None:
                names += [head + hash_hex + tail for hash_hex, _ in page.keys]
                cursor = page.cursor
                if cursor is None:
                    break
        return names

    def _by_space(self, keys: Sequence[CacheEngineKey], forms: Iterable[_Form | None]) -> dict[Space, list[int]]:
        return _grouped([None if form is None else self._space(key, form) for key, form in zip(keys, forms, strict=True)])

    def _space(self, key: CacheEngineKey, form: _Form) -> Space:
        space = self._space_of(key.model_name, key.world_size, key.worker_id, _rest_of(key), form)
        if form == self._full:
            self._keys.setdefault(space, key)
        return space

    def _make_space(self, model: str, world_size: int, worker: int, rest: str, form: _Form) -> Space:
        geometry = self._layouts.geometry(form.layout)
        tensors = "+".join(str(tensor) for tensor in form.layout)
        parts = ["lmcache", rest, f"format={int(form.fmt.value)}", tensors]
        if geometry.order == "bytes" and self._options.stated.block_tokens is not None:
            parts.append(f"block_tokens={self._options.stated.block_tokens}")
        return self._named(model, world_size, worker, geometry, parts, self._layouts.quality(geometry))

    def _record_space(self, key: CacheEngineKey) -> Space:
        parts = ["lmcache", _rest_of(key), "records"]
        return self._named(key.model_name, key.world_size, key.worker_id, Geometry.of_bytes("u8", RECORD_BYTES), parts, "exact")

    def _named(self, model: str, world_size: int, worker: int, geometry: Geometry, parts: list[str], quality: str | None) -> Space:
        variant = ";".join([*parts, *([self._options.variant] if self._options.variant is not None else [])])
        rank = Rank(worker, world_size) if 0 <= worker < world_size else None
        return Space(model, geometry, variant, self._options.adapter, None, rank, quality)

    # Last, because below it `list` is this method.
    async def list(self) -> list[str]:
        """Keys of the full chunks of what this process has used since it started."""
        return await self._run(self._list)


def _rest_of(key: CacheEngineKey) -> str:
    """What LMCache's key has besides model, rank and hash: dtype, layer of the layerwise mode, tags. JSON, so that no two are alike."""
    return json.dumps([str(key.dtype), getattr(key, "layer_id", None), key.tags], default=str)


def _address_of(url: str) -> str:
    """`kvreel:///path/of/socket` or `kvreel://host:port`."""
    parts = urlsplit(url)
    return f"http://{parts.netloc}" if parts.netloc else parts.path


def _grouped(spaces: Sequence[Space | None]) -> dict[Space, list[int]]:
    """Places by space; those of None are in none."""
    groups: dict[Space, list[int]] = {}
    for place, space in enumerate(spaces):
        if space is not None:
            groups.setdefault(space, []).append(place)
    return groups


def _release(objects: Sequence[MemoryObj | None]) -> None:
    for memory in objects:
        if memory is not None:
            memory.ref_count_down()
