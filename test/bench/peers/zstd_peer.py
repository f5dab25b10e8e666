"""zstd on a capture's bytes: zstd_peer.py LEVEL [FILE ...]"""

import sys

import zstandard
from peer import serve, tensor_bytes, timed_rows

LEVEL = int(sys.argv[1])
COMPRESSOR = zstandard.ZstdCompressor(level=LEVEL)
SLOW_LEVEL = 10


def measure(path):
    raw, element_bytes = tensor_bytes(path)
    slow = {"repeats": 1, "warm_up": False} if LEVEL >= SLOW_LEVEL else {}
    decompress = zstandard.ZstdDecompressor().decompress
    return timed_rows(f"zstd-{LEVEL}", len(raw), element_bytes, lambda: COMPRESSOR.compress(raw), decompress, **slow)


serve(measure, sys.argv[2:])
