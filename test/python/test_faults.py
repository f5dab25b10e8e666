"""What the daemon's death, silence and return are to the client: misses in bounded time, counted, and one line in the log."""

import logging
import os
import threading
import time
import unittest

from daemon import Daemon, until
from kvreel import Client, Geometry, Space

SPACE = Space("faults", Geometry.of_bytes("u8", 64))
SIZE = 64 * 4096
DATA = os.urandom(SIZE)


def memory() -> memoryview:
    return memoryview(bytearray(SIZE))


def timed(call: object) -> tuple[object, float]:
    begin = time.monotonic()
    result = call()  # type: ignore[operator]
    return result, time.monotonic() - begin


class FaultTest(unittest.TestCase):
    def setUp(self) -> None:
        self.daemon = self.enterContext(Daemon())
        self.client = Client(self.daemon.socket, timeout_s=5)
        self.addCleanup(self.client.close)

    def stored(self, *hashes: str) -> None:
        self.assertEqual(self.client.store(SPACE, [(value, memoryview(DATA), None) for value in hashes]), [True] * len(hashes))

    def test_a_daemon_that_was_never_there_is_a_miss_at_once_and_one_line(self) -> None:
        client = Client(os.path.join(self.daemon.folder, "nothing"))
        self.addCleanup(client.close)
        with self.assertLogs("kvreel", logging.WARNING) as logs:
            for _ in range(50):
                self.assertEqual(client.lookup(SPACE, ["01", "02"]), "00")
                self.assertEqual(client.fetch(SPACE, [("01", memory())]), [False])
                self.assertEqual(client.store(SPACE, [("01", memoryview(DATA), None)]), [False])
            results, seconds = timed(lambda: client.fetch(SPACE, [("01", memory())]))
        self.assertLess(seconds, 1)
        self.assertEqual(results, [False])
        self.assertEqual(len(logs.records), 1, logs.output)
        self.assertEqual(dict(client.counters.misses), {"KV_CONNECTOR_UNAVAILABLE": 51})
        self.assertEqual(dict(client.counters.not_stored), {"KV_CONNECTOR_UNAVAILABLE": 50})
        self.assertFalse(client.is_well)

    def test_a_restarted_daemon_is_told_the_space_again_and_hits(self) -> None:
        self.stored("01")
        self.daemon.kill()
        self.assertEqual(self.client.fetch(SPACE, [("01", memory())]), [False])
        self.daemon.start()
        with self.assertLogs("kvreel", logging.INFO) as logs:
            into = memory()
            self.assertEqual(self.client.fetch(SPACE, [("01", into)]), [True])
        self.assertEqual(into, DATA)
        self.assertIn("answers again", logs.output[0])
        self.assertTrue(self.client.is_well)
        # All verbs, not only the one that noticed.
        self.assertEqual(self.client.exists(SPACE, ["01", "02"]), "10")

    def test_a_connection_that_went_stale_is_no_miss(self) -> None:
        self.stored("01")
        self.daemon.stop()
        self.daemon.start()
        self.assertEqual(self.client.fetch(SPACE, [("01", memory())]), [True])
        self.assertEqual(sum(self.client.counters.misses.values()), 0)
        self.assertGreaterEqual(self.client.counters.retries, 1)

    def test_a_daemon_that_stands_still_is_a_miss_at_the_deadline(self) -> None:
        self.stored("01")
        self.daemon.freeze()
        for call in (
            lambda: self.client.fetch(SPACE, [("01", memory()), ("02", memory())], deadline_ms=300),
            lambda: self.client.store(SPACE, [("03", memoryview(DATA), None)], deadline_ms=300),
            lambda: self.client.lookup(SPACE, ["01"], deadline_ms=300),
        ):
            result, seconds = timed(call)
            self.assertNotIn(True, list(result))  # type: ignore[call-overload]
            self.assertGreater(seconds, 0.25)
            self.assertLess(seconds, 2)
        self.assertEqual(self.client.counters.misses["KV_CONNECTOR_TIMEOUT"], 2)
        self.daemon.thaw()
        self.assertEqual(self.client.fetch(SPACE, [("01", memory())]), [True])

    def test_killed_during_a_fetch_what_came_counts_and_the_rest_is_a_miss(self) -> None:
        hashes = [f"{i:02x}" for i in range(200)]
        for at in range(0, 200, 50):
            self.stored(*hashes[at : at + 50])
        entries = [(value, memory()) for value in hashes]
        came = 0

        def on_entry(_: int, is_hit: bool) -> None:
            nonlocal came
            came += is_hit
            if came == 3:
                self.daemon.kill()

        results = self.client.fetch(SPACE, entries, on_entry=on_entry)
        self.assertGreaterEqual(sum(results), 3)
        self.assertLess(sum(results), 200)
        for (_, into), is_hit in zip(entries, results, strict=True):
            if is_hit:
                self.assertEqual(into, DATA)
        self.assertEqual(self.client.counters.hits, sum(results))
        self.assertEqual(dict(self.client.counters.misses), {"KV_CONNECTOR_UNAVAILABLE": 200 - sum(results)})

    def test_killed_during_stores_nothing_half_is_ever_served(self) -> None:
        done = threading.Event()
        stored: list[str] = []

        def keep_storing() -> None:
            number = 0
            while not done.is_set():
                value = f"{number:04x}"
                if self.client.store(SPACE, [(value, memoryview(DATA), None)], deadline_ms=2_000) == [True]:
                    stored.append(value)
                number += 1

        threads = [threading.Thread(target=keep_storing)]
        threads[0].start()
        until(lambda: len(stored) >= 5, "five chunks are stored")
        self.daemon.kill()
        done.set()
        threads[0].join()
        self.daemon.start()
        asked = [f"{number:04x}" for number in range(len(stored) + 3)]
        entries = [(value, memory()) for value in asked]
        results = self.client.fetch(SPACE, entries)
        self.assertEqual([value for value, is_hit in zip(asked, results, strict=True) if is_hit and value in stored], stored)
        for (_, into), is_hit in zip(entries, results, strict=True):
            if is_hit:
                self.assertEqual(into, DATA)

    def test_a_damaged_object_is_a_miss_that_says_so(self) -> None:
        self.stored("01", "02")
        for path in self.daemon.objects():
            with open(path, "r+b") as file:
                file.seek(os.path.getsize(path) // 2)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 0x40]))
        # A daemon that has seen the objects whole may have them in its memory.
        self.daemon.stop()
        self.daemon.start()
        self.assertEqual(self.client.fetch(SPACE, [("01", memory()), ("02", memory())]), [False, False])
        self.assertEqual(self.client.counters.hits, 0)
        self.assertEqual(sum(self.client.counters.misses.values()), 2)
        # Storing it again mends it.
        self.stored("01")
        into = memory()
        self.assertEqual(self.client.fetch(SPACE, [("01", into)]), [True])
        self.assertEqual(into, DATA)

    def test_close_ends_a_call_in_flight(self) -> None:
        self.stored("01")
        self.daemon.freeze()
        results: list[list[bool]] = []
        thread = threading.Thread(target=lambda: results.append(self.client.fetch(SPACE, [("01", memory())], deadline_ms=20_000)))
        thread.start()
        until(lambda: self.client.is_busy, "the fetch is on its way")
        self.client.close()
        thread.join(5)
        self.assertEqual(results, [[False]])


if __name__ == "__main__":
    unittest.main()
