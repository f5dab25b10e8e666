"""KvreelTier through vLLM's SecondaryTierFactory, on memory as vLLM would give it. vLLM's worker of this tier does not run on a CPU."""

import mmap
import os
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from vllm.v1.kv_offload.base import LookupResult, ReqContext, ScheduleEndContext, make_offload_key
from vllm.v1.kv_offload.config import (
    OffloadingCacheConfig,
    OffloadingConfig,
    OffloadingGroupConfig,
    OffloadingModelConfig,
    OffloadingParallelConfig,
)
from vllm.v1.kv_offload.tiering.base import TransferJob
from vllm.v1.kv_offload.tiering.factory import SecondaryTierFactory

ROWS, ROW_BYTES = 6, 1 << 18


def spec(dtype="bfloat16", model="org/model"):
    config = OffloadingConfig(
        groups=(OffloadingGroupConfig(256, ("model.layers.0.self_attn.attn",), 0),),
        worker_kv_bytes_per_block=ROW_BYTES,
        enable_kv_cache_events=False,
        extra_config={},
        engine_id=str(uuid.uuid4()),
        model=OffloadingModelConfig(model, dtype),
        cache=OffloadingCacheConfig(256, 1),
        parallel=OffloadingParallelConfig(0, 1, 1, 1, 1, 1, 0, 1, None, True),
    )
    return SimpleNamespace(config=config, kv_events_config=SimpleNamespace(enable_kv_cache_events=False), blocks_per_chunk=1)


def tier_of(address, memory, made_for=None, **config):
    view = memoryview(memory).cast("B").cast("B", (ROWS, ROW_BYTES))
    settings = {"type": "KvreelTier", "module_path": "kvreel.vllm_tier", "address": address, **config}
    return SecondaryTierFactory.create_secondary_tier(settings, view, made_for or spec())


@pytest.fixture
def memory():
    """A file as vLLM makes it, which the daemon can map."""
    path = Path(f"/dev/shm/vllm_offload_{uuid.uuid4()}.mmap")
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    os.ftruncate(file, ROWS * ROW_BYTES)
    try:
        yield mmap.mmap(file, ROWS * ROW_BYTES)
    finally:
        os.close(file)
        path.unlink()


def random_keys(count):
    return [make_offload_key(os.urandom(32), 0) for _ in range(count)]


def look(tier, keys, request="r"):
    """As vLLM's manager asks: in a step, and again in the next ones while it is told to."""
    context = ReqContext(request)
    tier.on_new_request(context)
    deadline = time.monotonic() + 20
    while True:
        results = [tier.lookup(key, context) for key in keys]
        tier.on_schedule_end(ScheduleEndContext((), ()))
        if LookupResult.RETRY not in results:
            tier.on_request_finished(context)
            return results
        assert time.monotonic() < deadline


def finish(tier, job_id):
    tier.drain_jobs()
    (result,) = [result for result in tier.get_finished_jobs() if result.job_id == job_id]
    return result


def run(tier, keys, rows, is_load, job_id=1):
    job = TransferJob(job_id, keys, np.array(rows), is_load, ReqContext("r"))
    (tier.submit_load if is_load else tier.submit_store)(job)
    return finish(tier, job_id)


def fill(memory):
    memory[:] = np.random.default_rng(1).standard_normal(ROWS * ROW_BYTES // 4, dtype=np.float32).tobytes()


@pytest.mark.parametrize("is_shared", [True, False])
def test_rows_come_back_into_other_rows(address, memory, is_shared):
    own = memory if is_shared else bytearray(ROWS * ROW_BYTES)
    fill(own)
    before = bytes(own)
    keys = random_keys(3)
    tier = tier_of(address, own)
    try:
        assert look(tier, keys) == [LookupResult.MISS] * 3
        assert run(tier, keys, [0, 1, 2], False).success
        own[3 * ROW_BYTES :] = bytes(3 * ROW_BYTES)
        assert look(tier, keys, "another") == [LookupResult.HIT] * 3
        result = run(tier, keys, [5, 4, 3], True)
        assert result.success and list(result.successful_keys) == keys and result.transfer_bytes == 3 * ROW_BYTES
        for row, place in enumerate((5, 4, 3)):
            assert own[place * ROW_BYTES : (place + 1) * ROW_BYTES] == before[row * ROW_BYTES : (row + 1) * ROW_BYTES]
    finally:
        tier.shutdown()


def test_a_load_that_fails_in_part_says_which_keys_came_and_is_not_found_again(address, memory):
    fill(memory)
    keys = random_keys(2)
    tier = tier_of(address, memory)
    try:
        assert run(tier, keys[:1], [0], False).success
        context = ReqContext("r")
        tier.lookup(keys[1], context)
        result = run(tier, keys, [1, 2], True, 2)
        assert not result.success and list(result.successful_keys) == keys[:1]
        assert tier.lookup(keys[1], context) == LookupResult.MISS
    finally:
        tier.shutdown()


@pytest.mark.parametrize("other", [spec(dtype="float16"), spec(model="org/other")])
def test_another_dtype_or_model_is_a_miss(address, memory, other):
    fill(memory)
    keys = random_keys(1)
    tier, stranger = tier_of(address, memory), tier_of(address, bytearray(ROWS * ROW_BYTES), other)
    try:
        assert run(tier, keys, [0], False).success
        assert look(tier, keys) == [LookupResult.HIT]
        assert look(stranger, keys) == [LookupResult.MISS]
    finally:
        tier.shutdown()
        stranger.shutdown()


def test_without_a_daemon_all_is_a_miss_and_no_call_waits(memory, until, tmp_path):
    tier = tier_of(str(tmp_path / "nobody.sock"), memory)
    keys = random_keys(2)
    try:
        assert look(tier, keys) == [LookupResult.MISS] * 2
        assert not run(tier, keys, [0, 1], True).success
        assert not run(tier, keys, [0, 1], False, 2).success
    finally:
        tier.shutdown()


def test_lookups_of_a_daemon_that_does_not_answer_end_as_misses(memory, tmp_path):
    import socket

    path = str(tmp_path / "silent.sock")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        tier = tier_of(path, memory, deadline_ms=300)
        started = time.monotonic()
        context = ReqContext("r")
        assert tier.lookup(random_keys(1)[0], context) == LookupResult.RETRY
        assert time.monotonic() - started < 0.1
        assert look(tier, random_keys(1)) == [LookupResult.MISS]
        assert time.monotonic() - started < 3
        tier.shutdown()


def test_settings_that_cannot_be_are_refused(memory):
    with pytest.raises(ValueError, match="address"):
        SecondaryTierFactory.create_secondary_tier({"type": "KvreelTier", "module_path": "kvreel.vllm_tier"}, memoryview(memory), spec())
