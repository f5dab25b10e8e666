"""The in-process remote connector behind LMCache's own RemoteBackend, a real daemon behind it."""

import asyncio
import os
import random
import threading
import time
import unittest
from typing import Any

import torch
from daemon import Daemon, until
from lmcache.utils import CacheEngineKey
from lmcache.v1.config import LMCacheEngineConfig
from lmcache.v1.memory_management import MemoryFormat, MemoryObj
from lmcache.v1.metadata import LMCacheMetadata
from lmcache.v1.storage_backend.local_cpu_backend import LocalCPUBackend
from lmcache.v1.storage_backend.remote_backend import RemoteBackend

LAYERS, TOKENS, HIDDEN = 4, 64, 32
FULL = (2, LAYERS, TOKENS, HIDDEN)
GEOMETRY = {"order": "lmcache_2ltd", "kv_heads": 2, "head_dim": 16}
PLUGIN = "remote_storage_plugin.kvreel."
LIMIT_S = 30


def key(chunk_hash: int, dtype: torch.dtype = torch.bfloat16, **parts: Any) -> CacheEngineKey:
    return CacheEngineKey(**{"model_name": "org/model", "world_size": 2, "worker_id": 1, "chunk_hash": chunk_hash, "dtype": dtype, **parts})


class Engine:
    """As much of LMCache's engine as a remote backend needs."""

    def __init__(self, address: str, dtype: torch.dtype = torch.bfloat16, by_url: bool = False, **params: Any) -> None:
        self.dtype = dtype
        extra = {"module_path": "kvreel.lmcache_remote", "class_name": "KvreelConnectorAdapter", **params}
        if not by_url:
            extra["address"] = address
        self.config = LMCacheEngineConfig.from_defaults(
            chunk_size=TOKENS,
            remote_url=f"kvreel://{address}" if by_url else None,
            remote_serde="naive",
            remote_storage_plugins=["kvreel"],
            max_local_cpu_size=0.05,
            save_unfull_chunk=True,
            blocking_timeout_secs=2,
            extra_config={PLUGIN + name: value for name, value in extra.items()},
        )
        metadata = LMCacheMetadata("org/model", 2, 2, 1, 1, dtype, (LAYERS, 2, TOKENS, 2, HIDDEN // 2), chunk_size=TOKENS)
        self.memory = LocalCPUBackend(self.config, metadata, "cpu")
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.backend = RemoteBackend(self.config, metadata, self.loop, self.memory, "cpu", plugin_name=None if by_url else "kvreel")
        assert self.backend.connection is not None
        self.connector = self.backend.connection.getWrappedConnector()

    def close(self) -> None:
        self.backend.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(LIMIT_S)
        self.loop.close()

    def chunk(
        self, seed: int, shape: tuple[int, ...] = FULL, dtype: torch.dtype | None = None, fmt: MemoryFormat = MemoryFormat.KV_2LTD
    ) -> MemoryObj:
        memory = self.memory.allocate(torch.Size(shape), dtype or self.dtype, fmt)
        view = memoryview(memory.byte_array).cast("B")
        view[:] = random.Random(seed).randbytes(len(view))
        return memory

    def put(self, at: CacheEngineKey, memory: MemoryObj) -> None:
        memory.ref_count_up()
        self.backend.submit_put_task(at, memory).result(LIMIT_S)

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(LIMIT_S)


def described(memory: MemoryObj | None) -> Any:
    if memory is None:
        return None
    shapes = [tuple(shape) for shape in memory.get_shapes()]
    return shapes, memory.get_dtypes(), memory.get_memory_format(), bytes(memory.byte_array)


class ConnectorTest(unittest.TestCase):
    def setUp(self) -> None:
        self.daemon = self.enterContext(Daemon())
        self.engine = self.engine_of()

    def engine_of(self, **params: Any) -> Engine:
        engine = Engine(self.daemon.socket, **params)
        self.addCleanup(engine.close)
        return engine

    def test_chunks_of_any_shape_dtype_and_format_come_back(self) -> None:
        for params in ({}, GEOMETRY, {"by_url": True}):
            engine = self.engine_of(variant="-".join(params) or "none", **params)
            chunks = {
                key(1): engine.chunk(1),
                key(-0x274654DCC82EA3F3): engine.chunk(2),
                key(3): engine.chunk(3, (2, LAYERS, 7, HIDDEN)),
                key(4): engine.chunk(4, (TOKENS, 2, HIDDEN), fmt=MemoryFormat.KV_T2D),
                key(5, request_configs={"lmcache.tag.user": "alice"}): engine.chunk(5),
            }
            for dtype in (torch.float16, torch.float32, torch.uint8, torch.float8_e4m3fn):
                chunks[key(1, dtype)] = engine.chunk(6, FULL, dtype)
            for at, memory in chunks.items():
                engine.put(at, memory)
            for at, memory in chunks.items():
                with self.subTest(params=params, key=at.to_string()):
                    self.assertTrue(engine.backend.contains(at))
                    loaded = engine.backend.get_blocking(at)
                    self.assertEqual(described(loaded), described(memory))
                    self.assertEqual(loaded.get_ref_count(), 1)

    def test_layers_of_the_layerwise_mode_are_apart(self) -> None:
        layers = key(1).split_layers(LAYERS)
        for number, at in enumerate(layers):
            self.engine.put(at, self.engine.chunk(number, (TOKENS, 2, HIDDEN), fmt=MemoryFormat.KV_T2D))
        for number, at in enumerate(layers):
            loaded = self.engine.backend.get_blocking(at)
            self.assertEqual(bytes(loaded.byte_array), bytes(self.engine.chunk(number, (TOKENS, 2, HIDDEN)).byte_array))

    def test_a_batch_has_an_answer_for_each_key(self) -> None:
        keys = [key(n) for n in range(1, 6)]
        for at in (keys[0], keys[1], keys[3]):
            self.engine.put(at, self.engine.chunk(at.chunk_hash))
        objects = self.engine.backend.batched_get_blocking(keys)
        self.assertEqual([memory is not None for memory in objects], [True, True, False, True, False])
        self.assertEqual(bytes(objects[3].byte_array), bytes(self.engine.chunk(4).byte_array))
        self.assertEqual(self.engine.backend.batched_contains(keys), 2)
        self.assertEqual(self.engine.run(self.engine.backend.batched_async_contains("id", keys)), 2)
        prefix = self.engine.run(self.engine.backend.batched_get_non_blocking("id", keys))
        self.assertEqual(len(prefix), 2)

    def test_an_engine_of_another_dtype_misses(self) -> None:
        self.engine.put(key(1), self.engine.chunk(1))
        other = self.engine_of(dtype=torch.float32)
        self.assertFalse(other.backend.contains(key(1, torch.float32)))
        self.assertIsNone(other.backend.get_blocking(key(1, torch.float32)))

    def test_other_tags_ranks_and_adapters_miss(self) -> None:
        self.engine.put(key(1), self.engine.chunk(1))
        for other in (
            key(1, request_configs={"lmcache.tag.user": "eve"}),
            key(1, worker_id=0),
            key(1, world_size=4),
            key(1, model_name="other"),
        ):
            self.assertFalse(self.engine.backend.contains(other))
        self.assertFalse(self.engine_of(adapter="lora").backend.contains(key(1)))
        self.assertTrue(self.engine.backend.contains(key(1)))

    def test_keys_are_listed_and_removed(self) -> None:
        for at in (key(1), key(-0x2F)):
            self.engine.put(at, self.engine.chunk(1))
        self.assertEqual(sorted(self.engine.run(self.engine.connector.list())), sorted([key(1).to_string(), key(-0x2F).to_string()]))
        self.assertTrue(self.engine.backend.remove(key(1)))
        self.assertFalse(self.engine.backend.contains(key(1)))
        self.assertFalse(self.engine.connector.exists_sync(key(1)))
        self.assertTrue(self.engine.connector.exists_sync(key(-0x2F)))

    def test_no_daemon_is_a_miss_and_its_return_is_noticed(self) -> None:
        self.engine.put(key(1), self.engine.chunk(1))
        self.assertEqual(self.engine.run(self.engine.connector.ping()), 0)
        self.daemon.kill()
        begin = time.monotonic()
        self.assertFalse(self.engine.backend.contains(key(1)))
        self.assertIsNone(self.engine.backend.get_blocking(key(1)))
        self.engine.put(key(2), self.engine.chunk(2))
        self.assertEqual(self.engine.run(self.engine.connector.ping()), 1)
        self.assertLess(time.monotonic() - begin, 5)
        self.daemon.start()
        self.assertTrue(self.engine.backend.contains(key(1)))
        self.assertFalse(self.engine.backend.contains(key(2)))
        self.assertIsNotNone(self.engine.backend.get_blocking(key(1)))

    def test_an_engine_that_starts_before_the_daemon_hits_later(self) -> None:
        self.engine.put(key(1), self.engine.chunk(1))
        self.daemon.stop()
        engine = self.engine_of()
        self.assertFalse(engine.backend.contains(key(1)))
        self.daemon.start()
        self.assertIsNotNone(engine.backend.get_blocking(key(1)))

    def test_memory_of_a_get_that_lmcache_gave_up_is_given_back(self) -> None:
        self.engine.put(key(1), self.engine.chunk(1))
        engine = self.engine_of(lookup_deadline_ms=20_000)
        self.daemon.freeze()
        waiting = asyncio.run_coroutine_threadsafe(engine.connector.get(key(1)), engine.loop)
        until(lambda: engine.connector._client.is_busy, "the get is on its way")
        waiting.cancel()
        self.daemon.thaw()
        until(lambda: engine.connector._client.counters.hits == 1, "the chunk has come all the same")
        allocator = engine.memory.get_memory_allocator().pin_allocator
        until(lambda: allocator.total_allocated_size == 0, "its memory is free")
        self.assertIsNotNone(engine.backend.get_blocking(key(1)))

    def test_memory_of_misses_is_given_back(self) -> None:
        allocator = self.engine.memory.get_memory_allocator().pin_allocator
        chunk = self.engine.chunk(1)
        self.engine.put(key(1), chunk)
        for path in self.daemon.objects():
            os.truncate(path, os.path.getsize(path) // 2)
        before = allocator.total_allocated_size
        # Looked up it is there, and memory allocated for it.
        self.assertTrue(self.engine.backend.contains(key(1)))
        self.assertIsNone(self.engine.backend.get_blocking(key(1)))
        self.assertEqual(allocator.total_allocated_size, before)
        del chunk


if __name__ == "__main__":
    unittest.main()
