"""The client on a real daemon: each call, and what it counts."""

import random
import threading
import unittest

from daemon import Daemon
from kvreel import Client, Geometry, Rank, Rope, Space

BYTES = Space("model", Geometry.of_bytes("u8", 64))
FUSED = Space("model", Geometry("fused", "bf16", 4, 2, 32, rope=Rope(10_000.0)))
TOKEN = "a-token-of-the-tests-0123456789"
SHAPES = {"bytes": (BYTES, 64 * 1000), "fused": (FUSED, FUSED.geometry.token_bytes * 256)}


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def memory(size: int) -> memoryview:
    return memoryview(bytearray(size))


class ClientTest(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = cls.enterClassContext(
            Daemon("--host", "127.0.0.1", "--port", "0", "--memory-bytes", "64MiB", environment={"KVREEL_TOKEN": TOKEN})
        )

    def setUp(self) -> None:
        self.client = Client(self.daemon.socket)
        self.addCleanup(self.client.close)

    def test_what_was_stored_comes_back_byte_for_byte(self) -> None:
        for name, (space, size) in SHAPES.items():
            with self.subTest(name):
                data, into = noise(size), memory(size)
                self.assertEqual(self.client.store(space, [(b"\x01" * 32, memoryview(data), 0)]), [True])
                self.assertEqual(self.client.fetch(space, [("01" * 32, into)]), [True])
                self.assertEqual(into, data)

    def test_entries_succeed_and_miss_on_their_own(self) -> None:
        space, size = SHAPES["fused"]
        self.client.store(space, [(f"a{i}", memoryview(noise(size, i)), None) for i in range(3)])
        places: list[tuple[int, bool]] = []
        entries = [("a0", memory(size)), ("ff", memory(size)), ("a2", memory(size)), ("a1", memory(size // 2))]
        results = self.client.fetch(space, entries, on_entry=lambda place, is_hit: places.append((place, is_hit)))
        self.assertEqual(results, [True, False, True, False])
        self.assertEqual(sorted(places), list(enumerate(results)))
        self.assertEqual(entries[0][1], noise(size, 0))
        self.assertEqual(entries[2][1], noise(size, 2))
        self.assertEqual(self.client.counters.hits, 2)
        self.assertEqual(sum(self.client.counters.misses.values()), 2)

    def test_a_range_of_layers_comes_alone(self) -> None:
        split = Space("layers", Geometry("split", "bf16", 6, 2, 16))
        layer = split.geometry.token_bytes * 32 // 6
        data, into = noise(layer * 6), memory(layer * 2)
        self.client.store(split, [("01", memoryview(data), 0)])
        self.assertEqual(self.client.fetch(split, [("01", into)], layers=(1, 3)), [True])
        self.assertEqual(into, data[layer : layer * 3])

    def test_only_the_right_bytes_of_a_larger_buffer_are_touched(self) -> None:
        space, size = SHAPES["bytes"]
        data, around = noise(size), bytearray(b"\xaa" * (size + 200))
        self.client.store(space, [("01", memoryview(data), None)])
        self.client.fetch(space, [("01", memoryview(around)[100 : 100 + size])])
        self.assertEqual(around, b"\xaa" * 100 + data + b"\xaa" * 100)

    def test_spaces_that_differ_in_anything_never_meet(self) -> None:
        base = Space("apart", Geometry("fused", "bf16", 4, 2, 32))
        size = base.geometry.token_bytes * 32
        self.client.store(base, [("01", memoryview(noise(size)), 0)])
        others = [
            Space("other", base.geometry),
            Space("apart", Geometry("fused", "f16", 4, 2, 32)),
            Space("apart", Geometry("fused", "bf16", 2, 4, 32)),
            Space("apart", Geometry("vllm_cpu_rows", "bf16", 4, 2, 32, block_tokens=16)),
            Space("apart", base.geometry, variant="another engine"),
            Space("apart", base.geometry, adapter="lora"),
            Space("apart", base.geometry, salt="tenant"),
            Space("apart", base.geometry, rank=Rank(0, 2)),
            Space("apart", base.geometry, rank=Rank(1, 2)),
        ]
        digests = {self.client.register(space) for space in [base, *others]}
        self.assertEqual(len(digests), len(others) + 1)
        for space in others:
            with self.subTest(space):
                self.assertEqual(self.client.exists(space, ["01"]), "0")
                self.assertEqual(self.client.fetch(space, [("01", memory(size))]), [False])

    def test_lookup_and_exists_say_one_character_a_hash(self) -> None:
        space, size = SHAPES["bytes"]
        self.client.store(space, [("b1", memoryview(noise(size)), None)])
        self.assertEqual(self.client.exists(space, ["b1", "b2"]), "10")
        self.assertEqual(self.client.lookup(space, ["b1", "b2"], wait_ms=2_000), "10")
        self.assertEqual(self.client.lookup(space, []), "")

    def test_a_store_is_seen_by_other_clients_at_once(self) -> None:
        space, size = SHAPES["bytes"]
        other = Client(self.daemon.socket)
        self.addCleanup(other.close)
        self.assertEqual(other.exists(space, ["c1"]), "0")
        self.client.store(space, [("c1", memoryview(noise(size)), None)])
        self.assertEqual(other.lookup(space, ["c1"]), "1")

    def test_what_is_stored_is_listed_and_deleted(self) -> None:
        space = Space("listed", BYTES.geometry)
        hashes = [f"{i:02x}" for i in range(1, 8)]
        self.client.store(space, [(value, memoryview(noise(640, i)), None) for i, value in enumerate(hashes)])
        listed: list[str] = []
        cursor: str | None = None
        while True:
            page = self.client.keys(space, limit=3, cursor=cursor)
            assert page is not None
            listed += [key for key, _ in page.keys]
            cursor = page.cursor
            if cursor is None:
                break
        self.assertEqual(sorted(listed), hashes)
        usage = self.client.usage()
        assert usage is not None
        self.assertIn("listed", [of["model"] for of in usage["spaces"]])
        self.assertEqual(self.client.delete(space, [hashes[0], "ff"]), 1)
        self.assertEqual(self.client.exists(space, hashes[:2]), "01")

    def test_prefetch_is_accepted_and_harms_nothing(self) -> None:
        space, size = SHAPES["bytes"]
        self.client.store(space, [("d1", memoryview(noise(size)), None)])
        self.assertEqual(self.client.prefetch(space, ["d1"]), 1)
        self.assertEqual(self.client.fetch(space, [("d1", memory(size))]), [True])

    def test_many_threads_share_a_client(self) -> None:
        space, size = SHAPES["bytes"]
        wrong: list[int] = []

        def work(number: int) -> None:
            for turn in range(5):
                hash_hex, data, into = f"e{number:02x}{turn:02x}", noise(size, number * 100 + turn), memory(size)
                stored = self.client.store(space, [(hash_hex, memoryview(data), None)])
                if stored != [True] or self.client.fetch(space, [(hash_hex, into)]) != [True] or into != data:
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=[number]) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])
        self.assertEqual(self.client.counters.hits, 80)
        self.assertEqual(self.client.counters.fetched_bytes, 80 * size)

    def test_tcp_wants_the_token(self) -> None:
        address = f"http://127.0.0.1:{self.daemon.port}"
        space, size = SHAPES["bytes"]
        with_token, without = Client(address, TOKEN), Client(address, "another")
        self.addCleanup(with_token.close)
        self.addCleanup(without.close)
        data, into = noise(size, 7), memory(size)
        self.assertEqual(with_token.store(space, [("f1", memoryview(data), None)]), [True])
        self.assertEqual(with_token.fetch(space, [("f1", into)]), [True])
        self.assertEqual(into, data)
        self.assertEqual(without.fetch(space, [("f1", into)]), [False])
        self.assertEqual(without.counters.hits, 0)

    def test_a_mistake_of_the_caller_is_an_exception_at_once(self) -> None:
        with self.assertRaises(TypeError):
            self.client.fetch(BYTES, [("01", memoryview(b"read only"))])
        with self.assertRaises(ValueError):
            Client("https://host:1")
        with self.assertRaises(ValueError):
            Client(self.daemon.socket, timeout_s=0)
        with self.assertRaises(ValueError):
            Geometry("fused", "bf16", 0, 1, 1)
        with self.assertRaises(ValueError):
            Geometry("vllm_cpu_rows", "bf16", 1, 1, 1)

    def test_a_tensor_that_is_no_chunk_of_the_space_is_refused_alone(self) -> None:
        space, size = SHAPES["fused"]
        results = self.client.store(space, [("aa01", memoryview(noise(size)), None), ("aa02", memoryview(noise(size - 1)), None)])
        self.assertEqual(results, [True, False])
        self.assertEqual(sum(self.client.counters.not_stored.values()), 1)

    def test_after_close_everything_is_a_miss(self) -> None:
        space, size = SHAPES["bytes"]
        self.client.close()
        self.client.close()
        self.assertEqual(self.client.fetch(space, [("01", memory(size))]), [False])
        self.assertEqual(self.client.lookup(space, ["01"]), "0")
        self.assertEqual(self.client.register(space), "")


if __name__ == "__main__":
    unittest.main()
