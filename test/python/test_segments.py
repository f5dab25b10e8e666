"""Shared memory between client and daemon: tensors through it, and what happens to it when one of the two dies."""

import mmap
import os
import shutil
import subprocess
import threading
import time
import unittest
import uuid

from daemon import Daemon, until
from kvreel import Client, Geometry, Space
from kvreel.segments import address_of

SPACE = Space("segments", Geometry.of_bytes("u8", 64))
SIZE = 64 * 10_000
DATA = os.urandom(SIZE)

UNSHARE = ["unshare", "--map-root-user", "--mount"]
CAN_UNSHARE = shutil.which("unshare") is not None and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


class Pool:
    """Memory of the client's own, as LMCache and vLLM have it."""

    def __init__(self, size: int) -> None:
        self.path = f"/dev/shm/kvreel-test-{uuid.uuid4().hex}"
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.ftruncate(descriptor, size)
        self._mapped = mmap.mmap(descriptor, size)
        os.close(descriptor)
        self.view = memoryview(self._mapped)
        self.size = size

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        os.unlink(self.path)


class SegmentTest(unittest.TestCase):
    def setUp(self) -> None:
        self.daemon = self.enterContext(Daemon())
        self.client = Client(self.daemon.socket)
        self.addCleanup(self.client.close)

    def attached(self, pool: Pool) -> None:
        self.client.segments.attach(pool.path, address_of(pool.view), pool.size)
        self.assertTrue(self.client.segments.is_leased)

    def test_tensors_in_a_pool_of_ours_come_and_go_through_it(self) -> None:
        pool = self.enterContext(Pool(SIZE * 3))
        self.attached(pool)
        pool.view[:SIZE] = DATA
        self.assertEqual(self.client.store(SPACE, [("01", pool.view[:SIZE], None)]), [True])
        self.assertEqual(self.client.fetch(SPACE, [("01", pool.view[SIZE : 2 * SIZE]), ("02", pool.view[2 * SIZE :])]), [True, False])
        self.assertEqual(pool.view[SIZE : 2 * SIZE], DATA)
        # Where nothing was found nothing was written, so it did not come by the socket.
        self.assertEqual(pool.view[2 * SIZE :], bytes(SIZE))

    def test_tensors_inside_and_outside_of_segments_in_one_call(self) -> None:
        pool = self.enterContext(Pool(SIZE))
        self.attached(pool)
        pool.view[:] = DATA
        outside = memoryview(os.urandom(SIZE))
        self.assertEqual(self.client.store(SPACE, [("01", outside, None), ("02", pool.view, None)]), [True, True])
        pool.view[:] = bytes(SIZE)
        into = memoryview(bytearray(SIZE))
        self.assertEqual(self.client.fetch(SPACE, [("01", into), ("02", pool.view)]), [True, True])
        self.assertEqual(into, outside)
        self.assertEqual(pool.view, DATA)

    def test_a_segment_of_the_daemon_is_gone_with_the_client(self) -> None:
        segment = self.client.segments.create(SIZE)
        assert segment is not None and segment.view is not None
        segment.view[:] = DATA
        self.assertEqual(self.client.store(SPACE, [("01", segment.view, None)]), [True])
        self.assertEqual(os.stat(segment.path).st_mode & 0o777, 0o600)
        self.client.close()
        self.assertFalse(os.path.exists(segment.path))

    def test_a_restarted_daemon_is_given_the_pool_again(self) -> None:
        pool = self.enterContext(Pool(SIZE))
        self.attached(pool)
        pool.view[:] = DATA
        self.client.store(SPACE, [("01", pool.view, None)])
        self.daemon.kill()
        self.assertEqual(self.client.fetch(SPACE, [("01", pool.view)]), [False])
        self.assertTrue(self.client.segments.settled())
        self.daemon.start()
        pool.view[:] = bytes(SIZE)
        self.assertEqual(self.client.fetch(SPACE, [("01", pool.view)]), [True])
        self.assertEqual(pool.view, DATA)
        until(
            lambda: self.client.fetch(SPACE, [("01", pool.view)]) == [True] and self.client.segments.is_leased, "the pool is attached again"
        )

    def test_memory_of_a_call_given_up_is_settled_only_when_the_daemon_has_let_go(self) -> None:
        pool = self.enterContext(Pool(SIZE))
        self.attached(pool)
        pool.view[:] = DATA
        self.client.store(SPACE, [("01", pool.view, None)])
        self.daemon.freeze()
        begin = time.monotonic()
        self.assertEqual(self.client.fetch(SPACE, [("01", pool.view)], deadline_ms=300), [False])
        self.assertLess(time.monotonic() - begin, 5)
        self.assertFalse(self.client.segments.settled())
        self.daemon.thaw()
        self.assertTrue(self.client.segments.settled(10))
        self.assertEqual(self.client.fetch(SPACE, [("01", pool.view)]), [True])

    def test_a_daemon_that_dies_has_let_go(self) -> None:
        pool = self.enterContext(Pool(SIZE))
        self.attached(pool)
        self.daemon.freeze()
        self.assertEqual(self.client.fetch(SPACE, [("01", pool.view)], deadline_ms=300), [False])
        self.daemon.kill()
        self.assertTrue(self.client.segments.settled(10))

    def test_many_threads_in_one_pool(self) -> None:
        count = 8
        pool = self.enterContext(Pool(SIZE * count))
        self.attached(pool)
        wrong: list[int] = []

        def work(number: int) -> None:
            view = pool.view[number * SIZE : (number + 1) * SIZE]
            data = os.urandom(SIZE)
            for turn in range(4):
                view[:] = data
                stored = self.client.store(SPACE, [(f"{number:02x}{turn:02x}", view, None)])
                view[:] = bytes(SIZE)
                if stored != [True] or self.client.fetch(SPACE, [(f"{number:02x}{turn:02x}", view)]) != [True] or view != data:
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=[number]) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])
        self.assertEqual(self.client.counters.failures, {})

    @unittest.skipUnless(CAN_UNSHARE, "needs the right to mount in a namespace of its own")
    def test_a_daemon_with_another_shared_memory_is_not_given_a_file_of_the_same_name(self) -> None:
        pool = self.enterContext(Pool(SIZE))
        pool.view[:] = DATA
        own = f'mount -t tmpfs none /dev/shm && truncate -s {SIZE} {pool.path} && exec "$@"'
        daemon = self.enterContext(Daemon(within=[*UNSHARE, "sh", "-c", own, "sh"]))
        client = Client(daemon.socket)
        self.addCleanup(client.close)
        with self.assertLogs("kvreel", "WARNING"):
            client.segments.attach(pool.path, address_of(pool.view), pool.size)
        self.assertFalse(client.segments.is_leased)
        self.assertEqual(client.store(SPACE, [("01", pool.view, None)]), [True])
        pool.view[:] = bytes(SIZE)
        self.assertEqual(client.fetch(SPACE, [("01", pool.view)]), [True])
        self.assertEqual(pool.view, DATA)
        self.assertIsNone(client.segments.create(SIZE))

    def test_memory_that_cannot_be_shared_goes_by_the_socket(self) -> None:
        pool = self.enterContext(Pool(SIZE))
        with self.assertLogs("kvreel", "WARNING"):
            self.client.segments.attach("/dev/shm/kvreel-there-is-none", address_of(pool.view), pool.size)
        pool.view[:] = DATA
        self.assertEqual(self.client.store(SPACE, [("01", pool.view, None)]), [True])
        pool.view[:] = bytes(SIZE)
        self.assertEqual(self.client.fetch(SPACE, [("01", pool.view)]), [True])
        self.assertEqual(pool.view, DATA)


if __name__ == "__main__":
    unittest.main()
