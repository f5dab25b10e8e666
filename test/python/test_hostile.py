"""Answers that no daemon of ours gives: each is a miss, within the deadline, and writes nothing but the caller's own memory."""

import json
import os
import random
import socket
import struct
import tempfile
import threading
import time
import unittest

from kvreel import Client, Geometry, Space

SPACE = Space("hostile", Geometry.of_bytes("u8", 64))
SIZE = 6400
END = 0xFFFFFFFF


def frame(index: int, status: int, payload: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack("<IIQ", index, status, len(payload) if size is None else size) + payload


def answer(body: bytes, head: str = "HTTP/1.1 200 OK") -> bytes:
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


TENSOR = b"\x5a" * SIZE
SUMMARY = frame(END, 0, b"{}")

ANSWERS = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing": b"",
    "an endless header": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "an error without JSON": answer(b"<html>", "HTTP/1.1 502 Bad Gateway"),
    "an error of another shape": answer(b'{"error": "text"}', "HTTP/1.1 500 Oops"),
    "success that is empty": answer(b""),
    "half a frame header": answer(frame(0, 0, TENSOR)[:7]),
    "half a tensor": answer(frame(0, 0, TENSOR)[:1000]),
    "a tensor and no end": answer(frame(0, 0, TENSOR)),
    "a tensor that is too long": answer(frame(0, 0, TENSOR + b"x") + SUMMARY),
    "a tensor that is too short": answer(frame(0, 0, TENSOR[:-1]) + SUMMARY),
    "a length beyond memory": answer(frame(0, 0, b"", size=1 << 62)),
    "an entry nobody asked for": answer(frame(7, 0, TENSOR) + SUMMARY),
    "an unknown status": answer(frame(0, 9) + SUMMARY),
    "a miss with bytes": answer(frame(0, 1, b"x") + SUMMARY),
    "a failure without JSON": answer(frame(0, 2, b"no") + SUMMARY),
    "a failure without a code": answer(frame(0, 2, b"{}") + SUMMARY),
    "a failure beyond memory": answer(frame(0, 2, b"", size=1 << 40)),
    "an end without a summary": answer(frame(END, 0, b"[")),
    "an end and no entry": answer(SUMMARY),
    "an answer that goes on": answer(frame(0, 1) + frame(1, 1) + SUMMARY + b"more"),
    "a chunk that breaks off": chunked(frame(0, 0, TENSOR)[:100]),
    "a chunk length that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


class Peer:
    """Registers any space, then answers everything with the same bytes and hangs up."""

    def __init__(self, said: bytes, stays: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="kvreel-hostile-")
        self.path = os.path.join(self._folder.name, "socket")
        self._said = said
        self._stays = stays
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._folder.cleanup()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=[connection], daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            while path := self._request(lines):
                if path == "/v1/spaces":
                    connection.sendall(answer(json.dumps({"space": "0" * 32}).encode()))
                    continue
                try:
                    connection.sendall(self._said)
                except OSError:
                    return
                if self._stays:
                    lines.read()
                return

    @staticmethod
    def _request(lines: object) -> str:
        path = lines.readline().split(b" ")[1:2]  # type: ignore[attr-defined]
        length = 0
        while (line := lines.readline().strip()) != b"":  # type: ignore[attr-defined]
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        lines.read(length)  # type: ignore[attr-defined]
        return path[0].decode() if path else ""


class HostileTest(unittest.TestCase):
    def test_no_answer_of_these_is_a_hit_or_an_exception(self) -> None:
        for name, said in ANSWERS.items():
            with self.subTest(name), Peer(said) as peer:
                self._ask(peer)

    def test_the_same_where_the_peer_does_not_hang_up(self) -> None:
        for name in ("nothing", "half a head", "half a frame header", "half a tensor", "a tensor and no end", "a chunk that breaks off"):
            # Only answers that promise more than they bring keep the client waiting; it waits no longer than it may.
            with self.subTest(name), Peer(ANSWERS[name], stays=True) as peer:
                self._ask(peer)

    def test_a_good_answer_with_random_damage_never_harms(self) -> None:
        good = chunked(frame(0, 0, TENSOR), frame(1, 1), SUMMARY, b"")
        for seed in range(300):
            chance = random.Random(seed)
            damaged = bytearray(good)
            for _ in range(chance.randint(1, 4)):
                # Mostly in what is not the tensor.
                at = chance.choice([chance.randrange(100), chance.randrange(len(good) - 100, len(good)), chance.randrange(len(good))])
                damaged[at] = chance.choice([0, 0xFF, damaged[at] ^ 1 << chance.randrange(8), chance.randrange(256)])
            with self.subTest(seed), Peer(bytes(damaged[: chance.choice([len(good), chance.randrange(len(good))])])) as peer:
                client, around = Client(peer.path, timeout_s=5), bytearray(b"\xaa" * (SIZE + 128))
                entries = [("01", memoryview(around)[64 : 64 + SIZE]), ("02", memoryview(bytearray(SIZE)))]
                results = client.fetch(SPACE, entries)
                self.assertEqual(around[:64] + around[-64:], b"\xaa" * 128)
                self.assertEqual(client.counters.hits + sum(client.counters.misses.values()), 2)
                self.assertEqual(sum(results), client.counters.hits)
                client.close()

    def test_an_answer_after_which_the_daemon_hangs_up_is_read_to_its_end(self) -> None:
        # Longer than what is read ahead with the head.
        large = TENSOR * 40
        with Peer(answer(frame(0, 0, large) + SUMMARY, "HTTP/1.1 200 OK\r\nConnection: close")) as peer:
            client, into = Client(peer.path, timeout_s=5), memoryview(bytearray(len(large)))
            self.assertEqual(client.fetch(SPACE, [("01", into)]), [True])
            self.assertEqual(into, large)
            client.close()
        refusal = b'{"error": {"code": "KV_CLOSED", "message": "the daemon is stopping"}}'
        with Peer(answer(refusal, "HTTP/1.1 503 Service Unavailable\r\nConnection: close")) as peer:
            client = Client(peer.path, timeout_s=5)
            self.assertEqual(client.fetch(SPACE, [("01", memoryview(bytearray(SIZE)))]), [False])
            self.assertEqual(dict(client.counters.misses), {"KV_CLOSED": 1})
            client.close()

    def _ask(self, peer: Peer) -> None:
        client = Client(peer.path, timeout_s=0.4)
        around = bytearray(b"\xaa" * (SIZE + 128))
        begin = time.monotonic()
        results = client.fetch(SPACE, [("01", memoryview(around)[64 : 64 + SIZE]), ("02", memoryview(bytearray(SIZE)))])
        hits = client.lookup(SPACE, ["01", "02"])
        client.keys(SPACE)
        client.usage()
        client.delete(SPACE, ["01"])
        client.close()
        self.assertLess(time.monotonic() - begin, 10)
        self.assertEqual(around[:64] + around[-64:], b"\xaa" * 128)
        self.assertFalse(results[1])
        # A whole and right frame came before the answer broke: that tensor is good.
        self.assertIn(results[0], (False, bytes(around[64:-64]) == TENSOR))
        self.assertEqual(hits, "00")


if __name__ == "__main__":
    unittest.main()
