"""ZipNN on a capture's bf16 bytes: zipnn_peer.py [FILE ...]"""

import sys

import zipnn
from peer import serve, tensor_bytes, timed_rows

CODEC = zipnn.ZipNN(bytearray_dtype="bfloat16", input_format="byte", threads=1)
RUNS = 5


def measure(path):
    raw, element_bytes = tensor_bytes(path)
    # ZipNN reorders its input in place, so that every run needs a copy, made before the clock starts.
    inputs = [bytearray(raw) for _ in range(RUNS)]

    def encode():
        return CODEC.compress(inputs.pop())

    assert CODEC.decompress(encode()) == raw
    return timed_rows("zipnn", len(raw), element_bytes, encode, CODEC.decompress, repeats=RUNS - 2)


serve(measure, sys.argv[1:])
