"""A secondary tier of vLLM's OffloadingConnector: `{"type": "KvreelTier", "module_path": "kvreel.vllm_tier", "address": ...}`.

Runs in the scheduler's process, so nothing here waits for the daemon but threads of its own. What a row of vLLM's host memory holds depends
on its offloading worker; it is stored as bytes, losslessly, apart by all that shapes it.
"""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, ClassVar

from typing_extensions import override
from vllm.v1.kv_offload.base import (
    LookupResult,
    Medium,
    OffloadingSpec,
    OffloadKey,
    ReqContext,
    RequestOffloadingContext,
    ScheduleEndContext,
)
from vllm.v1.kv_offload.tiering.async_lookup import AsyncLookupManager
from vllm.v1.kv_offload.tiering.backpressure import BackpressureDetector
from vllm.v1.kv_offload.tiering.base import JobId, JobResult, SecondaryTierManager, TransferJob

from .client import Client
from .mapping import find_mapping
from .params import Params
from .segments import address_of
from .space import Geometry, Space

LOAD_THREADS = 4
STORE_THREADS = 1
"""Loads have threads of their own, so that no store keeps one waiting."""

WAIT_MS = 100
"""How long the daemon may hold one answer back while it looks at the store."""

STORE_DEADLINE_MS = 30_000
"""No request waits for it, but rows of vLLM's host memory are pinned meanwhile."""

HOLD_S = 60.0
"""Longest that a result is held back because the daemon may still be at work in the job's rows."""

ROW = 64
"""Elements of a row of bytes as the daemon sees them; what it is does not matter to vLLM."""

DTYPES = {"bfloat16": ("bf16", 2), "float16": ("f16", 2), "half": ("f16", 2), "float32": ("f32", 4), "float": ("f32", 4)}
"""By vLLM's name; with others the rows are coded as bytes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Asked:
    """When a request first asked for a chunk."""

    at: float


class _DaemonLookups(AsyncLookupManager):
    """vLLM's own bookkeeping of lookups on a thread, with the daemon behind it."""

    def __init__(self, tier: "KvreelTier") -> None:
        self._tier = tier
        super().__init__(tier_type=tier.tier_type)

    @override
    def batch_lookup(self, keys: list[OffloadKey], req_context: ReqContext) -> Iterable[bool]:
        return self._tier.look_up(keys)


class KvreelTier(SecondaryTierManager):
    """`address`, `token_file`, `deadline_ms` (of a lookup, and again of a load; default 2000), `store_queue_mb` (default 512), `model`."""

    medium: ClassVar[Medium] = Medium.STORAGE

    def __init__(
        self,
        offloading_spec: OffloadingSpec,
        primary_kv_view: memoryview,
        tier_type: str,
        backpressure_detector: BackpressureDetector | None = None,
        **config: Any,
    ) -> None:
        super().__init__(offloading_spec, primary_kv_view, tier_type, backpressure_detector)
        params = Params(f"secondary tier {tier_type}", config)
        self._client = Client(params.address(), params.token())
        self._deadline_ms = params.count("deadline_ms", 2_000)
        self._max_queued = params.count("store_queue_mb", 512) << 20
        self._space = space_of(offloading_spec, self._block_size_bytes, params.text("model"))
        params.refuse_others()
        self._rows = primary_kv_view.cast("B")
        self._attach()
        self._lock = threading.Lock()
        self._finished: list[JobResult] = []
        self._futures: set[Future[None]] = set()
        self._loading: dict[JobId, list[OffloadKey]] = {}
        self._queued = 0
        self._load_threads = ThreadPoolExecutor(LOAD_THREADS, "kvreel-tier-load")
        self._store_threads = ThreadPoolExecutor(STORE_THREADS, "kvreel-tier-store")
        self._lookups = _DaemonLookups(self)

    @override
    def on_new_request(self, req_context: ReqContext) -> RequestOffloadingContext:
        return RequestOffloadingContext()

    @override
    def lookup(self, key: OffloadKey, req_context: ReqContext) -> LookupResult:
        found = self._lookups.lookup(key, req_context)
        if found is not None:
            return LookupResult.HIT if found else LookupResult.MISS
        asked = req_context.get_state(_Asked)
        if asked is None:
            asked = _Asked(time.monotonic())
            req_context.set_state(asked)
        return LookupResult.MISS if time.monotonic() - asked.at > self._deadline_ms / 1000 else LookupResult.RETRY

    def look_up(self, keys: Collection[OffloadKey]) -> list[bool]:
        """On a thread of its own, until the deadline."""
        deadline = time.monotonic() + self._deadline_ms / 1000
        hashes = [key.hex() for key in keys]
        hits = "?" * len(hashes)
        while "?" in hits and (left_ms := (deadline - time.monotonic()) * 1000) > 0:
            hits = self._client.lookup(self._space, hashes, int(min(WAIT_MS, left_ms)), left_ms)
        return [hit == "1" for hit in hits]

    @override
    def submit_store(self, job_metadata: TransferJob) -> None:
        size = len(job_metadata.keys) * self._block_size_bytes
        if self._queued > 0 and self._queued + size > self._max_queued:
            # The rows are pinned until they are stored: with a store that cannot keep up, better fewer chunks than no room for new ones.
            self._finish(JobResult(job_metadata.job_id, False))
            return
        with self._lock:
            self._queued += size
        self._submit(self._store_threads, self._store, job_metadata)

    @override
    def submit_load(self, job_metadata: TransferJob) -> None:
        self._loading[job_metadata.job_id] = list(job_metadata.keys)
        self._submit(self._load_threads, self._load, job_metadata)

    @override
    def get_finished_jobs(self) -> Iterable[JobResult]:
        with self._lock:
            finished, self._finished = self._finished, []
        for result in finished:
            keys = self._loading.pop(result.job_id, [])
            if not result.success and keys:
                # Or the scheduler would ask again, be told that they are there, and try for ever.
                loaded = set(result.successful_keys or ())
                self._lookups.mark_miss([key for key in keys if key not in loaded])
        return finished

    @override
    def has_pending_work(self) -> bool:
        return bool(self._futures)

    @override
    def on_request_finished(self, req_context: ReqContext) -> None:
        self._lookups.cleanup(req_context.req_id)

    @override
    def on_schedule_end(self, context: ScheduleEndContext) -> None:
        self._lookups.flush()

    @override
    def drain_jobs(self) -> None:
        wait(list(self._futures))

    @override
    def shutdown(self) -> None:
        self._client.close()
        for threads in (self._load_threads, self._store_threads):
            threads.shutdown(wait=True, cancel_futures=True)
        self._lookups.shutdown()

    def _submit(self, threads: ThreadPoolExecutor, work: Any, job: TransferJob) -> None:
        def run() -> None:
            try:
                self._finish(work(job))
            except Exception:
                # The edge to vLLM, which would keep the rows pinned for ever.
                log.exception("a job failed and counts as a miss")
                self._finish(JobResult(job.job_id, False))

        try:
            future = threads.submit(run)
        except RuntimeError:
            self._finish(JobResult(job.job_id, False))  # shut down
            return
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)

    def _store(self, job: TransferJob) -> JobResult:
        size = len(job.keys) * self._block_size_bytes
        try:
            stored = self._client.store(self._space, [(hash, row, None) for hash, row in self._entries(job)], STORE_DEADLINE_MS)
        finally:
            with self._lock:
                self._queued -= size
        return self._result(job, stored)

    def _load(self, job: TransferJob) -> JobResult:
        return self._result(job, self._client.fetch(self._space, self._entries(job), self._deadline_ms))

    def _entries(self, job: TransferJob) -> list[tuple[str, memoryview]]:
        size = self._block_size_bytes
        return [(key.hex(), self._rows[int(row) * size : (int(row) + 1) * size]) for key, row in zip(job.keys, job.chunk_ids, strict=True)]

    def _result(self, job: TransferJob, done: list[bool]) -> JobResult:
        """Not before the daemon has let go of the rows."""
        if not self._client.segments.settled(HOLD_S):
            log.error("the daemon has not let go of the engine's memory in %.0f s: it neither answers nor ends; restart it", HOLD_S)
        keys = [key for key, is_done in zip(job.keys, done, strict=True) if is_done]
        size = len(keys) * self._block_size_bytes
        return JobResult(job.job_id, all(done), keys, time.monotonic() - job.submit_time, size)

    def _finish(self, result: JobResult) -> None:
        with self._lock:
            self._finished.append(result)

    def _attach(self) -> None:
        """Tells the daemon of vLLM's own memory file, where it has one."""
        address = address_of(self._rows)
        mapping = find_mapping(address)
        if mapping is None or (size := mapping.shared_bytes) == 0:
            log.info("vLLM's host memory is no file that a daemon can map: chunks go through the socket")
            return
        self._client.segments.attach(mapping.path, mapping.start - mapping.offset, size)


def space_of(spec: OffloadingSpec, row_bytes: int, model: str | None) -> Space:
    """Of all that shapes a row."""
    config = spec.config
    parallel = config.parallel
    name, size = DTYPES.get(config.model.dtype.removeprefix("torch."), ("u8", 1))
    if row_bytes % (ROW * size) != 0:
        name, size = "u8", 1
    shape = {
        "groups": [[group.tokens_per_block, list(group.layer_names)] for group in config.groups],
        "dtype": config.model.dtype,
        "tokens_per_hash": config.cache.tokens_per_hash,
        "blocks_per_chunk": config.cache.blocks_per_chunk,
        "row": row_bytes,
        "parallel": [parallel.tp_size, parallel.pp_size, parallel.pcp_size, parallel.dcp_size],
        "layout": [config.kv_cache_layout, config.canonical_layout, config.replicated_layout],
    }
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:32]
    row = ROW if row_bytes % (ROW * size) == 0 else row_bytes
    # No rank: a row holds the shares of all workers.
    return Space(model or config.model.name, Geometry.of_bytes(name, row), f"vllm tier; {digest}", quality="exact")
