"""The L2 adapter as LMCache's controllers use it: real keys and memory of LMCache, a real daemon."""

import mmap
import os
import random
import select
import socket
import threading
import time
import unittest
import uuid
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from daemon import Daemon, until
from kvreel import Client, Geometry, Rank, Rope, Space
from kvreel.lmcache_l2 import KvreelL2Adapter, KvreelL2AdapterConfig
from lmcache.v1.distributed.api import MemoryLayoutDesc, ObjectKey
from lmcache.v1.distributed.internal_api import L1MemoryDesc, L2AdapterListener
from lmcache.v1.memory_management import MemoryFormat, MemoryObjMetadata, TensorMemoryObj
from lmcache.v1.platform import consume_fd

SHAPE = (4, 64, 2 * 2 * 16)
GEOMETRY = {"order": "fused", "kv_heads": 2, "head_dim": 16}
LIMIT_S = 30


def key(number: int, **parts: Any) -> ObjectKey:
    return ObjectKey(**{"chunk_hash": number.to_bytes(32, "big"), "model_name": "org/model", "kv_rank": 0x01000100, **parts})


def chunk(
    seed: int | None = None, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.bfloat16, at: torch.Tensor | None = None
) -> TensorMemoryObj:
    """Memory of LMCache, with noise or nothing in it; `at` is the memory to use."""
    size = torch.Size(shape).numel() * dtype.itemsize
    raw = torch.zeros(size, dtype=torch.uint8) if at is None else at[:size]
    if seed is not None:
        raw.copy_(torch.frombuffer(bytearray(random.Random(seed).randbytes(size)), dtype=torch.uint8))
    metadata = MemoryObjMetadata(shape=torch.Size(shape), dtype=dtype, address=0, phy_size=size, ref_count=1, fmt=MemoryFormat.KV_2LTD)
    return TensorMemoryObj(raw_data=raw, metadata=metadata, parent_allocator=None)


def content(memory: TensorMemoryObj) -> bytes:
    return bytes(memory.byte_array)


def layouts(shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.bfloat16, group: int = 0) -> dict[int, MemoryLayoutDesc]:
    return {group: MemoryLayoutDesc([torch.Size(shape)], [dtype])}


def wait(fd: int, limit_s: float = LIMIT_S) -> bool:
    """Whether the event came; takes it."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(limit_s * 1000):
        return False
    consume_fd(fd)
    return True


class Books(L2AdapterListener):
    """What LMCache is told of an adapter's keys."""

    def __init__(self) -> None:
        self.stored: list[ObjectKey] = []
        self.accessed: list[ObjectKey] = []
        self.deleted: list[ObjectKey] = []

    def on_l2_keys_stored(self, keys: list[ObjectKey], sizes: list[int]) -> None:
        self.stored += keys

    def on_l2_keys_accessed(self, keys: list[ObjectKey]) -> None:
        self.accessed += keys

    def on_l2_keys_deleted(self, keys: list[ObjectKey]) -> None:
        self.deleted += keys


class AdapterCase(unittest.TestCase):
    def setUp(self) -> None:
        self.daemon = self.enterContext(Daemon("--memory-bytes", "0"))
        self.adapter = self.adapter_of()

    def adapter_of(self, l1: L1MemoryDesc | None = None, **params: Any) -> KvreelL2Adapter:
        adapter = KvreelL2Adapter(KvreelL2AdapterConfig.from_dict({"address": self.daemon.socket, **params}), l1_memory_desc=l1)
        self.addCleanup(adapter.close)
        return adapter

    def store(self, keys: list[ObjectKey], objects: list[TensorMemoryObj], adapter: KvreelL2Adapter | None = None) -> bool:
        adapter = adapter or self.adapter
        task = adapter.submit_store_task(keys, objects)
        self.assertTrue(wait(adapter.get_store_event_fd()))
        return adapter.pop_completed_store_tasks()[task].is_successful()

    def lookup(self, keys: list[ObjectKey], adapter: KvreelL2Adapter | None = None, **layout: Any) -> list[bool]:
        adapter = adapter or self.adapter
        task = adapter.submit_lookup_and_lock_task(keys, layouts(**layout))
        self.assertTrue(wait(adapter.get_lookup_and_lock_event_fd()))
        found = adapter.query_lookup_and_lock_result(task)
        return [found.test(place) for place in range(len(keys))]

    def load(self, keys: list[ObjectKey], objects: list[TensorMemoryObj], adapter: KvreelL2Adapter | None = None) -> list[bool]:
        adapter = adapter or self.adapter
        task = adapter.submit_load_task(keys, objects)
        self.assertTrue(wait(adapter.get_load_event_fd()))
        loaded = adapter.query_load_result(task)
        self.assertIsNone(adapter.query_load_result(task), "a result is given once")
        return [loaded.test(place) for place in range(len(keys))]

    def counters(self) -> dict[str, Any]:
        return self.adapter.report_status()["counters"]


class AdapterTest(AdapterCase):
    def test_chunks_come_back_as_they_were_each_on_its_own(self) -> None:
        for params in ({}, GEOMETRY):
            with self.subTest(params):
                adapter = self.adapter_of(**params)
                keys, objects = [key(1), key(2), key(3)], [chunk(1), chunk(2), chunk(3)]
                self.assertTrue(self.store(keys[:2], objects[:2], adapter))
                self.assertEqual(self.lookup(keys, adapter), [True, True, False])
                into = [chunk(), chunk(), chunk()]
                self.assertEqual(self.load(keys, into, adapter), [True, True, False])
                self.assertEqual([content(memory) for memory in into[:2]], [content(memory) for memory in objects[:2]])

    def test_the_three_events_are_apart(self) -> None:
        fds = {self.adapter.get_store_event_fd(), self.adapter.get_lookup_and_lock_event_fd(), self.adapter.get_load_event_fd()}
        self.assertEqual(len(fds), 3)
        task = self.adapter.submit_store_task([key(1)], [chunk(1)])
        self.assertTrue(wait(self.adapter.get_store_event_fd()))
        self.assertFalse(wait(self.adapter.get_load_event_fd(), 0) or wait(self.adapter.get_lookup_and_lock_event_fd(), 0))
        self.assertIn(task, self.adapter.pop_completed_store_tasks())
        self.assertEqual(self.adapter.pop_completed_store_tasks(), {})

    def test_many_tasks_at_once_each_get_their_own_result(self) -> None:
        tasks = {self.adapter.submit_store_task([key(n)], [chunk(n)]): n for n in range(40)}
        done: dict[int, Any] = {}
        while len(done) < 40:
            self.assertTrue(wait(self.adapter.get_store_event_fd()))
            done |= self.adapter.pop_completed_store_tasks()
        self.assertTrue(all(result.is_successful() for result in done.values()))
        loads = {self.adapter.submit_load_task([key(n), key(n + 1000)], [chunk(), chunk()]): n for n in tasks.values()}
        results: dict[int, Any] = {}
        while len(results) < 40:
            self.assertTrue(wait(self.adapter.get_load_event_fd()))
            results |= {
                task: result for task in loads if task not in results and (result := self.adapter.query_load_result(task)) is not None
            }
        self.assertTrue(all(result.test(0) and not result.test(1) for result in results.values()))

    def test_a_key_is_complete(self) -> None:
        self.assertTrue(self.store([key(1)], [chunk(1)]))
        # LMCache's key knows nothing of the first two: upstream a float32 engine crashes on what a bfloat16 engine stored.
        half = (4, 64, 32)
        for name, other, layout in (
            ("another dtype", key(1), {"dtype": torch.float32, "shape": half}),
            ("another dtype of the same size", key(1), {"dtype": torch.float16}),
            ("another shape", key(1), {"shape": (8, 32, 64)}),
            ("another rank", key(1, kv_rank=0x02000200), {}),
            ("another rank of as many", key(1, kv_rank=0x02010201), {}),
            ("another group", key(1, object_group_id=1), {"group": 1}),
            ("another tenant", key(1, cache_salt="tenant"), {}),
            ("another model", key(1, model_name="org/other"), {}),
        ):
            with self.subTest(name):
                self.assertEqual(self.lookup([other], **layout), [False])
                shape_and_dtype = {name: value for name, value in layout.items() if name != "group"}
                self.assertEqual(self.load([other], [chunk(**shape_and_dtype)]), [False])
        for params in (
            {"adapter": "lora"},
            {"variant": "flash attention"},
            {**GEOMETRY},
            {**GEOMETRY, "order": "vllm_cpu_rows", "block_tokens": 32},
        ):
            with self.subTest(params):
                self.assertEqual(self.lookup([key(1)], self.adapter_of(**params)), [False])
        self.assertEqual(self.lookup([key(1)]), [True])

    def test_many_ranks_are_found_and_loaded_together(self) -> None:
        keys = [key(n, kv_rank=0x08000800 | rank << 16) for rank in range(8) for n in range(3)]
        self.assertTrue(self.store(keys, [chunk(1) for _ in keys]))
        # A daemon that knows nothing yet of what is in its store.
        self.daemon.stop()
        self.daemon.start()
        absent = [key(9, kv_rank=0x08000800 | rank << 16) for rank in range(8)]
        self.assertEqual(self.lookup([*keys, *absent]), [True] * 24 + [False] * 8)
        self.assertEqual(self.load([*keys, *absent], [chunk() for _ in range(32)]), [True] * 24 + [False] * 8)

    def test_a_stated_geometry_is_what_is_stored(self) -> None:
        adapter = self.adapter_of(**GEOMETRY, rope={"theta": 10000.0, "style": "half"})
        self.assertTrue(self.store([key(1, cache_salt="secret")], [chunk(1)], adapter))
        # By this name, which a change of would orphan what users have stored.
        space = Space(
            "org/model",
            Geometry("fused", "bf16", 4, 2, 16, rope=Rope(10_000.0)),
            variant="lmcache-mp;kv_rank=01000100;group=0;bfloat16[4,64,64]",
            salt="secret",
            rank=Rank(0, 1),
            quality="exact",
        )
        client = Client(self.daemon.socket)
        self.addCleanup(client.close)
        self.assertEqual(client.exists(space, [key(1).chunk_hash]), "1")

    def test_lmcache_is_told_what_is_stored_used_and_deleted(self) -> None:
        books = Books()
        adapter = self.adapter_of(capacity_gb=1)
        adapter.register_listener(books)
        keys, size = [key(1), key(2, cache_salt="a")], chunk().get_size()
        for _ in range(2):
            for one in keys:
                self.store([one], [chunk(one.chunk_hash[-1])], adapter)
        self.assertEqual(books.stored, keys, "what was stored already is not counted twice")
        usage = adapter.get_usage()
        self.assertEqual((usage.total_bytes_used, dict(usage.bytes_by_cache_salt)), (2 * size, {"": size, "a": size}))
        self.load([keys[0], key(9)], [chunk(), chunk()], adapter)
        self.assertEqual(books.accessed, [keys[0]])
        adapter.delete([keys[0], key(9)])
        self.assertEqual(books.deleted, [keys[0]])
        self.assertEqual(self.lookup(keys, adapter), [False, True])
        self.assertEqual(adapter.get_usage().total_bytes_used, size)

    def test_keys_are_listed_page_by_page(self) -> None:
        keys = [key(n) for n in range(1, 6)] + [key(1, cache_salt="a"), key(1, model_name="other")]
        for one in keys:
            self.store([one], [chunk(1)])
        for model, expected in ((None, keys), ("org/model", keys[:6])):
            listed: list[str] = []
            cursor: str | None = None
            pages = 0
            while True:
                page = self.adapter.list_l2_keys(model, 2, cursor)
                self.assertLessEqual(len(page.entries), 2)
                listed += [str(entry.key) for entry in page.entries]
                pages, cursor = pages + 1, page.next_page_token
                if cursor is None:
                    break
            self.assertEqual(sorted(listed), sorted(str(one.to_encoded_object_key()) for one in expected))
            self.assertGreater(pages, 2)
        for page_size, cursor in ((0, None), (1, "x:y")):
            with self.assertRaises(ValueError):
                self.adapter.list_l2_keys(None, page_size, cursor)

    def test_no_daemon_is_a_miss_at_once_and_its_coming_is_noticed(self) -> None:
        self.daemon.kill()
        adapter = self.adapter_of()
        begin = time.monotonic()
        self.assertFalse(self.store([key(1)], [chunk(1)], adapter))
        self.assertEqual(self.lookup([key(1)], adapter), [False])
        self.assertEqual(self.load([key(1)], [chunk()], adapter), [False])
        self.assertIsNone(adapter.delete([key(1)]))
        self.assertEqual(adapter.list_l2_keys().entries, ())
        self.assertLess(time.monotonic() - begin, 5)
        self.assertFalse(adapter.report_status()["is_healthy"])
        self.daemon.start()
        self.assertTrue(self.store([key(1)], [chunk(1)], adapter))
        self.assertEqual(self.load([key(1)], [chunk()], adapter), [True])
        self.assertTrue(adapter.report_status()["is_healthy"])

    def test_killed_during_a_lookup_nothing_is_found_until_it_is_back(self) -> None:
        adapter = self.adapter_of(lookup_deadline_ms=LIMIT_S * 1000)
        self.store([key(1)], [chunk(1)], adapter)
        self.daemon.stop()
        files = self.daemon.url
        is_asked = threading.Event()
        getresponse = HTTPConnection.getresponse

        def await_answer(connection: HTTPConnection) -> HTTPResponse:
            # Once it has said that it does not know, it is asked to wait for its store.
            if adapter.report_status()["counters"]["not_known"] == 2:
                is_asked.set()
            return getresponse(connection)

        # A store that never answers, so that the lookup cannot end before the daemon does.
        with socket.create_server(("127.0.0.1", 0)) as silent, mock.patch.object(HTTPConnection, "getresponse", await_answer):
            self.daemon.url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
            self.daemon.start()
            task = adapter.submit_lookup_and_lock_task([key(1), key(2)], layouts())
            self.assertTrue(is_asked.wait(LIMIT_S))
            begin = time.monotonic()
            self.daemon.kill()
        self.assertTrue(wait(adapter.get_lookup_and_lock_event_fd()))
        self.assertLess(time.monotonic() - begin, 5)
        found = adapter.query_lookup_and_lock_result(task)
        self.assertEqual([found.test(0), found.test(1)], [False, False])
        self.assertEqual(adapter.report_status()["counters"]["failures"], {"KV_CONNECTOR_UNAVAILABLE": 1})
        self.daemon.url = files
        self.daemon.start()
        self.assertEqual(self.lookup([key(1), key(2)], adapter), [True, False])

    def test_killed_during_a_load_each_chunk_is_whole_or_missed(self) -> None:
        shape = (16, 256, 256)
        keys = [key(n) for n in range(24)]
        self.assertTrue(self.store(keys, [chunk(n, shape) for n in range(24)]))
        into = [chunk(shape=shape) for _ in keys]
        task = self.adapter.submit_load_task(keys, into)
        until(lambda: bytes(into[0].byte_array[:64]) != bytes(64), "the first chunk is on its way")
        self.daemon.kill()
        self.assertTrue(wait(self.adapter.get_load_event_fd()))
        loaded = self.adapter.query_load_result(task)
        for n, memory in enumerate(into):
            if loaded.test(n):
                self.assertEqual(content(memory), content(chunk(n, shape)))
        missed = sum(not loaded.test(n) for n in range(24))
        self.assertEqual(sum(self.counters()["misses"].values()), missed)
        self.assertEqual(self.counters()["hits"], 24 - missed)

    def test_killed_during_a_store_nothing_half_is_found(self) -> None:
        shape = (16, 256, 256)
        keys = [key(n) for n in range(24)]
        task = self.adapter.submit_store_task(keys, [chunk(n, shape) for n in range(24)])
        until(lambda: len(self.daemon.objects()) > 2, "some chunks are stored")
        self.daemon.kill()
        self.assertTrue(wait(self.adapter.get_store_event_fd()))
        self.assertFalse(self.adapter.pop_completed_store_tasks()[task].is_successful())
        self.daemon.start()
        into = [chunk(shape=shape) for _ in keys]
        loaded = self.load(keys, into)
        self.assertIn(True, loaded)
        self.assertIn(False, loaded)
        for n, memory in enumerate(into):
            if loaded[n]:
                self.assertEqual(content(memory), content(chunk(n, shape)))
        self.assertTrue(self.store(keys, [chunk(n, shape) for n in range(24)]))
        self.assertEqual(self.load(keys, into), [True] * 24)

    def test_a_damaged_object_is_a_miss_and_is_mended_by_a_store(self) -> None:
        self.store([key(1), key(2)], [chunk(1), chunk(2)])
        for path in self.daemon.objects():
            data = bytearray(Path(path).read_bytes())
            data[len(data) // 2] ^= 1
            Path(path).write_bytes(data)
        self.daemon.stop()
        self.daemon.start()
        self.assertEqual(self.load([key(1), key(2)], [chunk(), chunk()]), [False, False])
        self.assertTrue(self.store([key(1)], [chunk(1)]))
        into = chunk()
        self.assertEqual(self.load([key(1)], [into]), [True])
        self.assertEqual(content(into), content(chunk(1)))

    def test_a_daemon_that_stands_still_costs_the_deadlines_and_no_more(self) -> None:
        adapter = self.adapter_of(lookup_deadline_ms=200, load_deadline_ms=400, store_deadline_ms=600, store_queue_mb=1)
        self.store([key(1)], [chunk(1)], adapter)
        self.daemon.freeze()
        begin = time.monotonic()
        self.assertEqual(self.lookup([key(1)], adapter), [False])
        self.assertEqual(self.load([key(1)], [chunk()], adapter), [False])
        # More than the queue holds: the second store does not wait behind the first.
        large = (16, 256, 100)
        first = adapter.submit_store_task([key(2)], [chunk(2, large)])
        second = adapter.submit_store_task([key(3)], [chunk(3, large)])
        self.assertTrue(wait(adapter.get_store_event_fd()))
        results = adapter.pop_completed_store_tasks()
        self.assertFalse(results[second].is_successful())
        self.assertTrue(first in results or wait(adapter.get_store_event_fd()))
        self.assertLess(time.monotonic() - begin, 10)
        self.assertEqual(adapter.report_status()["stores_refused"], 1)
        self.daemon.thaw()
        self.assertEqual(self.load([key(1)], [chunk()], adapter), [True])

    def test_a_store_that_has_waited_for_too_long_is_given_up(self) -> None:
        # By then LMCache may have taken the memory back.
        with mock.patch("kvreel.lmcache_l2.STORE_LIMIT_S", 0.5):
            self.store([key(1)], [chunk(1)])
            self.daemon.freeze()
            begin = time.monotonic()
            tasks = [self.adapter.submit_store_task([key(n)], [chunk(n)]) for n in range(2, 8)]
            done: dict[int, Any] = {}
            while len(done) < len(tasks):
                self.assertTrue(wait(self.adapter.get_store_event_fd()))
                done |= self.adapter.pop_completed_store_tasks()
        self.assertFalse(any(result.is_successful() for result in done.values()))
        self.assertLess(time.monotonic() - begin, 5)
        self.assertEqual(self.counters()["not_stored"], {"KV_CONNECTOR_TIMEOUT": len(tasks)})

    def test_a_fault_within_a_task_is_a_miss(self) -> None:
        self.store([key(1)], [chunk(1)])
        with mock.patch.object(self.adapter, "_notify_keys_accessed", side_effect=RuntimeError("a listener of LMCache's")):
            self.assertEqual(self.load([key(1)], [chunk()]), [False])
        self.assertEqual(self.load([key(1)], [chunk()]), [True])

    def test_close_ends_what_is_in_flight(self) -> None:
        adapter = self.adapter_of(load_deadline_ms=60_000, store_deadline_ms=60_000)
        self.store([key(1)], [chunk(1)], adapter)
        self.daemon.freeze()
        adapter.submit_load_task([key(1)], [chunk()])
        adapter.submit_store_task([key(2)], [chunk(2)])
        begin = time.monotonic()
        adapter.close()
        self.assertLess(time.monotonic() - begin, 10)

    def test_parameters_that_cannot_be_are_refused_by_name(self) -> None:
        for params, message in (
            ({}, "address"),
            ({"address": "/s", "adress": "/s"}, "adress"),
            ({"address": "/s", "order": "rows"}, "order"),
            ({"address": "/s", "load_deadline_ms": 0}, "load_deadline_ms"),
            ({"address": "/s", "capacity_gb": -1}, "capacity_gb"),
            ({"address": "http://host:1", "token_file": "/there/is/none"}, "token_file"),
        ):
            with self.subTest(params), self.assertRaisesRegex(ValueError, message):
                KvreelL2AdapterConfig.from_dict(params)


class SharedPoolTest(AdapterCase):
    """With LMCache's memory in a pool that the daemon maps too."""

    def setUp(self) -> None:
        self.path = f"/dev/shm/lmcache_l1_pool_{uuid.uuid4().hex}"
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self.addCleanup(os.unlink, self.path)
        os.ftruncate(descriptor, 8 << 20)
        self.pool = torch.frombuffer(mmap.mmap(descriptor, 8 << 20), dtype=torch.uint8)
        os.close(descriptor)
        super().setUp()

    def adapter_of(self, l1: L1MemoryDesc | None = None, **params: Any) -> KvreelL2Adapter:
        return super().adapter_of(L1MemoryDesc(self.pool.data_ptr(), self.pool.numel(), 4096), **params)

    def test_chunks_move_through_the_pool(self) -> None:
        size = chunk().get_size()
        self.assertTrue(self.adapter.report_status()["uses_shared_memory"])
        stored = chunk(1, at=self.pool)
        self.assertTrue(self.store([key(1)], [stored]))
        loaded = chunk(at=self.pool[size:])
        self.assertEqual(self.load([key(1), key(2)], [loaded, chunk(at=self.pool[2 * size :])]), [True, False])
        self.assertEqual(content(loaded), content(stored))

    def test_nothing_is_reported_while_the_daemon_may_still_write(self) -> None:
        adapter = self.adapter_of(load_deadline_ms=300)
        self.store([key(1)], [chunk(1, at=self.pool)], adapter)
        into = chunk(at=self.pool[chunk().get_size() :])
        self.daemon.freeze()
        task = adapter.submit_load_task([key(1)], [into])
        self.assertFalse(wait(adapter.get_load_event_fd(), 4), "the daemon has not let go of the memory")
        self.daemon.thaw()
        self.assertTrue(wait(adapter.get_load_event_fd()))
        self.assertFalse(adapter.query_load_result(task).test(0))
        before = content(into)
        self.assertEqual(self.load([key(1)], [chunk()], adapter), [True])
        self.assertEqual(content(into), before)

    def test_a_restarted_daemon_is_given_the_pool_again(self) -> None:
        self.store([key(1)], [chunk(1, at=self.pool)])
        self.daemon.kill()
        self.assertEqual(self.load([key(1)], [chunk(at=self.pool)]), [False])
        self.daemon.start()
        until(
            lambda: self.load([key(1)], [chunk(at=self.pool)]) == [True] and self.adapter.report_status()["uses_shared_memory"],
            "the pool is attached again",
        )


if __name__ == "__main__":
    unittest.main()
