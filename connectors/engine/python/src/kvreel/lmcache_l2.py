"""L2 adapter of LMCache's multiprocess server: `lmcache server --l2-adapter '{"type": "plugin", "module_path": "kvreel.lmcache_l2", ...}'`.

LMCache submits tasks and is told by an eventfd that they are done, so each task runs on a thread here. A task always ends, by its deadline, and
always with an answer: what went wrong is a miss. Nothing is reported before the daemon has let go of the task's memory.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, TypeVar

from lmcache.lmcache_native import Bitmap
from lmcache.v1.distributed.api import KeyEntry, KeyListPage, MemoryLayoutDesc, ObjectKey
from lmcache.v1.distributed.internal_api import L1MemoryDesc, L2StoreResult
from lmcache.v1.distributed.l2_adapters.base import L2AdapterInterface, L2TaskId
from lmcache.v1.distributed.l2_adapters.config import L2AdapterConfigBase
from lmcache.v1.memory_management import MemoryObj
from lmcache.v1.platform import create_event_notifier

from .client import MAX_SPACES, Client
from .errors import TIMEOUT
from .lmcache_layout import Layout, Layouts, Stated, layout_of, layout_of_object
from .mapping import find_mapping
from .params import Params
from .report import show_logs
from .space import Rank, Space

T = TypeVar("T")

LOAD_THREADS = 4
PART_THREADS = 8
"""For the calls of loads, of which each rank and group of layers needs one."""
LOOKUP_THREADS = 2
STORE_THREADS = 2

STORE_BATCH_BYTES = 64 << 20
"""Tensors are stored in calls of about so much, each with a deadline of its own."""

STORE_LIMIT_S = 120.0
"""A store that is not done so long after it was submitted is given up: LMCache keeps the memory for it for 300 s only (--l1-read-ttl-seconds), and
what lies there later would be stored under the wrong key."""

HOLD_S = 60.0
"""Longest that a report is held back because the daemon may still be at work in the task's memory: it neither answers nor ends."""

log = logging.getLogger(__name__)


@dataclass
class KvreelL2AdapterConfig(L2AdapterConfigBase):
    """`adapter_params` of the `--l2-adapter` JSON."""

    address: str
    token: str | None = None
    stated: Stated = field(default_factory=Stated)
    adapter: str | None = None
    variant: str | None = None
    lookup_deadline_ms: int = 500
    load_deadline_ms: int = 5_000
    store_deadline_ms: int = 30_000
    store_queue_mb: int = 1_024
    capacity_gb: float = 0.0

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> "KvreelL2AdapterConfig":
        params = Params("adapter_params", d)
        config = cls(
            address=params.address(),
            token=params.token(),
            stated=Stated.from_params({name: d[name] for name in Stated.PARAMETERS if name in d}),
            adapter=params.text("adapter"),
            variant=params.text("variant"),
            lookup_deadline_ms=params.count("lookup_deadline_ms", cls.lookup_deadline_ms),
            load_deadline_ms=params.count("load_deadline_ms", cls.load_deadline_ms),
            store_deadline_ms=params.count("store_deadline_ms", cls.store_deadline_ms),
            store_queue_mb=params.count("store_queue_mb", cls.store_queue_mb),
            capacity_gb=params.amount("capacity_gb", cls.capacity_gb),
        )
        params.refuse_others(Stated.PARAMETERS)
        return config

    @classmethod
    def help(cls) -> str:
        return "address, token_file, order, kv_heads, head_dim, block_tokens, rope, quality, adapter, variant, lookup_deadline_ms, load_deadline_ms, store_deadline_ms, store_queue_mb, capacity_gb: see docs/python.md"


class KvreelL2Adapter(L2AdapterInterface):
    """Keeps LMCache's chunks in a kvreel daemon. Thread-safe."""

    def __init__(self, config: KvreelL2AdapterConfig, l1_memory_desc: L1MemoryDesc | None = None) -> None:
        super().__init__(max_capacity_bytes=int(config.capacity_gb * (1 << 30)))
        show_logs()
        self._config = config
        self._client = Client(config.address, config.token)
        self._layouts = Layouts(config.stated)
        self._space_of = lru_cache(maxsize=4096)(self._make_space)
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._stores: _Outbox[L2StoreResult] = _Outbox()
        self._lookups: _Outbox[Bitmap] = _Outbox()
        self._loads: _Outbox[Bitmap] = _Outbox()
        # Each kind has threads of its own: a slow store keeps neither a lookup nor a load waiting.
        self._store_threads = ThreadPoolExecutor(STORE_THREADS, "kvreel-store")
        self._lookup_threads = ThreadPoolExecutor(LOOKUP_THREADS, "kvreel-lookup")
        self._load_threads = ThreadPoolExecutor(LOAD_THREADS, "kvreel-load")
        self._part_threads = ThreadPoolExecutor(PART_THREADS, "kvreel-part")
        self._queued_bytes = 0
        self._refused_stores = 0
        self._seen: dict[tuple[str, int], Layout] = {}
        """Layout last seen of a model's object group: LMCache's check tools look up without saying one."""
        self._spaces: dict[Space, ObjectKey] = {}
        """Spaces used, each with one of its keys: what it takes to make keys of the daemon's hashes."""
        self._sizes: dict[ObjectKey, int] = {}
        """Keys that LMCache was told are stored, so that its books stay right."""
        self._is_closed = False
        self._attach(l1_memory_desc)

    def get_store_event_fd(self) -> int:
        return self._stores.fileno()

    def get_lookup_and_lock_event_fd(self) -> int:
        return self._lookups.fileno()

    def get_load_event_fd(self) -> int:
        return self._loads.fileno()

    def submit_store_task(self, keys: list[ObjectKey], objects: list[MemoryObj]) -> L2TaskId:
        task = next(self._ids)
        size = sum(memory.get_size() for memory in objects)
        with self._lock:
            is_full = self._queued_bytes > 0 and self._queued_bytes + size > self._config.store_queue_mb << 20
            self._refused_stores += is_full
            self._queued_bytes += 0 if is_full else size
        if is_full:
            # A store holds its part of L1 locked: with a store that cannot keep up, better fewer chunks than an L1 that is full of them.
            self._stores.put(task, L2StoreResult(False, 0))
            return task

        def after() -> None:
            self._hold()
            with self._lock:
                self._queued_bytes -= size

        by = time.monotonic() + STORE_LIMIT_S
        self._start(self._store_threads, self._stores, task, lambda: self._store(keys, objects, by), lambda: L2StoreResult(False, 0), after)
        return task

    def pop_completed_store_tasks(self) -> dict[L2TaskId, L2StoreResult]:
        return self._stores.take_all()

    def submit_lookup_and_lock_task(self, keys: list[ObjectKey], group_layout_descs: dict[int, MemoryLayoutDesc]) -> L2TaskId:
        task = next(self._ids)
        layouts = {group: layout_of(desc.shapes, desc.dtypes) for group, desc in group_layout_descs.items()}
        by = time.monotonic() + self._config.lookup_deadline_ms / 1000
        self._start(self._lookup_threads, self._lookups, task, lambda: self._lookup(keys, layouts, by), lambda: Bitmap(len(keys)))
        return task

    def query_lookup_and_lock_result(self, task_id: L2TaskId) -> Bitmap | None:
        return self._lookups.take(task_id)

    def submit_unlock(self, keys: list[ObjectKey]) -> None:
        """Nothing is locked: an object that goes between lookup and load is a miss of the load."""

    def submit_load_task(self, keys: list[ObjectKey], objects: list[MemoryObj]) -> L2TaskId:
        task = next(self._ids)
        by = time.monotonic() + self._config.load_deadline_ms / 1000
        self._start(self._load_threads, self._loads, task, lambda: self._load(keys, objects, by), lambda: Bitmap(len(keys)), self._hold)
        return task

    def query_load_result(self, task_id: L2TaskId) -> Bitmap | None:
        return self._loads.take(task_id)

    def delete(self, keys: list[ObjectKey]) -> None:
        for space, places in self._by_space(keys, [self._seen.get((key.model_name, key.object_group_id)) for key in keys]).items():
            there = [keys[place] for place in places]
            if self._client.delete(space, [key.chunk_hash for key in there]) is None:
                continue
            with self._lock:
                gone = {key: self._sizes.pop(key) for key in there if key in self._sizes}
            if gone:
                self._notify_keys_deleted(list(gone), list(gone.values()))

    def list_l2_keys(self, model_name: str | None = None, page_size: int = 500, cursor: str | None = None) -> KeyListPage:
        """Keys of what this server has used since it started; of other spaces the daemon knows no salt, so no key can be made."""
        if page_size <= 0:
            raise ValueError(f"page_size must be positive, got {page_size}")
        at, _, rest = (cursor or "0:").partition(":")
        if not at.isdigit():
            raise ValueError(f"malformed cursor {cursor!r}")
        with self._lock:
            spaces = list(self._spaces.items())
        entries: list[KeyEntry] = []
        for index in range(int(at), len(spaces)):
            space, sample = spaces[index]
            if model_name is None or sample.model_name == model_name:
                page = self._client.keys(space, page_size - len(entries), rest or None)
                entries += [_key_entry(sample, hash_hex, size) for hash_hex, size in (page.keys if page else [])]
                if page is not None and page.cursor:
                    return KeyListPage(tuple(entries), f"{index}:{page.cursor}")
            rest = ""
            if len(entries) >= page_size and index + 1 < len(spaces):
                return KeyListPage(tuple(entries), f"{index + 1}:")
        return KeyListPage(tuple(entries), None)

    def report_status(self) -> dict[str, Any]:
        with self._lock:
            waiting, refused, spaces = self._queued_bytes, self._refused_stores, len(self._spaces)
        return {
            "is_healthy": self._client.is_well and not self._is_closed,
            "type": type(self).__name__,
            "address": self._config.address,
            "uses_shared_memory": self._client.segments.is_leased,
            "spaces": spaces,
            "store_queue_bytes": waiting,
            "stores_refused": refused,
            "counters": self._client.counters.snapshot(),
        }

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        # Ends the calls in flight, so that no thread is left that writes into memory LMCache is about to free.
        self._client.close()
        for threads in (self._store_threads, self._lookup_threads, self._load_threads, self._part_threads):
            threads.shutdown(wait=True, cancel_futures=True)
        for outbox in (self._stores, self._lookups, self._loads):
            outbox.close()

    def _store(self, keys: Sequence[ObjectKey], objects: Sequence[MemoryObj], by: float) -> L2StoreResult:
        stored: list[int] = []
        for space, places in self._by_space(keys, [layout_of_object(memory) for memory in objects]).items():
            for batch in _batches(places, objects):
                left_ms = _left_ms(by)
                if left_ms == 0:
                    self._client.counters.no_store(TIMEOUT, len(batch))
                    continue
                entries = [(keys[place].chunk_hash, objects[place].byte_array, None) for place in batch]
                results = self._client.store(space, entries, min(left_ms, self._config.store_deadline_ms))
                stored += [place for place, is_stored in zip(batch, results, strict=True) if is_stored]
        sizes = {keys[place]: objects[place].get_size() for place in stored}
        with self._lock:
            new = {key: size for key, size in sizes.items() if key not in self._sizes}
            self._sizes |= new
        if new:
            self._notify_keys_stored(list(new), list(new.values()))
        return L2StoreResult(len(stored) == len(keys), sum(sizes.values()))

    def _lookup(self, keys: Sequence[ObjectKey], layouts: dict[int, Layout], by: float) -> Bitmap:
        found = Bitmap(len(keys))
        known = [layouts.get(key.object_group_id) or self._seen.get((key.model_name, key.object_group_id)) for key in keys]
        pending = self._by_space(keys, known)
        # First all spaces (ranks, groups) at once, so that the daemon asks the store for all that it does not know; then it is waited for.
        for waits in (False, True):
            unknown: dict[Space, list[int]] = {}
            for space, places in pending.items():
                left_ms = _left_ms(by)
                if left_ms == 0:
                    return found
                hits = self._client.lookup(space, [keys[place].chunk_hash for place in places], left_ms * 9 // 10 if waits else 0, left_ms)
                for place, hit in zip(places, hits, strict=True):
                    if hit == "1":
                        found.set(place)
                    elif hit == "?":
                        unknown.setdefault(space, []).append(place)
            pending = unknown
        return found

    def _load(self, keys: Sequence[ObjectKey], objects: Sequence[MemoryObj], by: float) -> Bitmap:
        def fetch(space: Space, places: list[int]) -> list[int]:
            left_ms = _left_ms(by)
            if left_ms == 0:
                self._client.counters.miss(TIMEOUT, len(places))
                return []
            results = self._client.fetch(space, [(keys[place].chunk_hash, objects[place].byte_array) for place in places], left_ms)
            return [place for place, is_hit in zip(places, results, strict=True) if is_hit]

        # Ranks and groups of layers side by side. All are waited for before the first result is looked at: each writes into LMCache's memory.
        parts = [
            self._part_threads.submit(fetch, *part)
            for part in self._by_space(keys, [layout_of_object(memory) for memory in objects]).items()
        ]
        wait(parts)
        hits = sorted(place for part in parts for place in part.result())
        loaded = Bitmap(len(keys))
        for place in hits:
            loaded.set(place)
        if hits:
            self._notify_keys_accessed([keys[place] for place in hits])
        return loaded

    def _hold(self) -> None:
        """Waits until the daemon has let go of memory of calls that were given up; LMCache uses it for something else as soon as it is told."""
        if not self._client.segments.settled(HOLD_S):
            log.error("the daemon has not let go of LMCache's memory in %.0f s: it neither answers nor ends; restart it", HOLD_S)

    def _start(
        self,
        threads: ThreadPoolExecutor,
        outbox: "_Outbox[T]",
        task: L2TaskId,
        work: Callable[[], T],
        otherwise: Callable[[], T],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        def run() -> None:
            try:
                result = work()
            except Exception:
                # The edge to LMCache, whose controllers would wait for this task for ever.
                log.exception("a task failed and counts as a miss")
                result = otherwise()
            finally:
                after()
            outbox.put(task, result)

        try:
            threads.submit(run)
        except RuntimeError:
            after()
            outbox.put(task, otherwise())

    def _by_space(self, keys: Sequence[ObjectKey], layouts: Sequence[Layout | None]) -> dict[Space, list[int]]:
        """Places of the keys by space; a key whose layout nobody has told is in none, so a miss."""
        groups: dict[Space, list[int]] = {}
        for place, (key, layout) in enumerate(zip(keys, layouts, strict=True)):
            if layout is None:
                continue
            self._seen[(key.model_name, key.object_group_id)] = layout
            space = self._space_of(key.model_name, key.kv_rank, key.object_group_id, key.cache_salt, layout)
            groups.setdefault(space, []).append(place)
        with self._lock:
            for space, places in groups.items():
                self._spaces.setdefault(space, keys[places[0]])
            while len(self._spaces) > MAX_SPACES:
                del self._spaces[next(iter(self._spaces))]
        return groups

    def _make_space(self, model: str, kv_rank: int, group: int, salt: str, layout: Layout) -> Space:
        geometry = self._layouts.geometry(layout)
        tensors = "+".join(str(tensor) for tensor in layout)
        # All that LMCache's key has and the space does not, and the dtype and shape that LMCache's key lacks.
        parts = ["lmcache-mp", f"kv_rank={kv_rank:08x}", f"group={group}", tensors]
        if geometry.order == "bytes" and self._config.stated.block_tokens is not None:
            parts.append(f"block_tokens={self._config.stated.block_tokens}")
        if self._config.variant is not None:
            parts.append(self._config.variant)
        of, index = kv_rank >> 24, (kv_rank >> 16) & 0xFF
        return Space(
            model=model,
            geometry=geometry,
            variant=";".join(parts),
            adapter=self._config.adapter,
            salt=salt or None,
            rank=Rank(index, of) if index < of else None,
            quality=self._layouts.quality(geometry),
        )

    def _attach(self, memory: L1MemoryDesc | None) -> None:
        """Shares LMCache's L1 with the daemon where it lies in shared memory (`--shm-name`)."""
        mapping = find_mapping(memory.ptr) if memory is not None else None
        if mapping is not None and (size := mapping.shared_bytes) > 0:
            # By the file and not the mapping, of which the kernel may have made several.
            self._client.segments.attach(mapping.path, mapping.start - mapping.offset, size)


class _Outbox(Generic[T]):
    """Results of one kind of task, and the event that says there are some."""

    def __init__(self) -> None:
        self._notifier = create_event_notifier()
        self._lock = threading.Lock()
        self._results: dict[L2TaskId, T] = {}
        self._is_closed = False

    def fileno(self) -> int:
        return int(self._notifier.fileno())

    def put(self, task: L2TaskId, result: T) -> None:
        with self._lock:
            self._results[task] = result
            if not self._is_closed:
                self._notifier.notify()

    def take(self, task: L2TaskId) -> T | None:
        with self._lock:
            return self._results.pop(task, None)

    def take_all(self) -> dict[L2TaskId, T]:
        with self._lock:
            results, self._results = self._results, {}
        return results

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._notifier.close()


def _left_ms(by: float) -> int:
    return max(0, int((by - time.monotonic()) * 1000))


def _batches(places: Sequence[int], objects: Sequence[MemoryObj]) -> list[list[int]]:
    batches: list[list[int]] = []
    size = STORE_BATCH_BYTES
    for place in places:
        if size >= STORE_BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(place)
        size += objects[place].get_size()
    return batches


def _key_entry(sample: ObjectKey, hash_hex: str, size: int) -> KeyEntry:
    key = ObjectKey(bytes.fromhex(hash_hex), sample.model_name, sample.kv_rank, sample.object_group_id, sample.cache_salt)
    return KeyEntry(key.to_encoded_object_key(), size)
