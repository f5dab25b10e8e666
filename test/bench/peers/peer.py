"""What the peers share: for each capture they are named, they print one line: a JSON array of rows {name, file, bits_per_value, ...}.

Files come as arguments, or one a line on standard input: so a benchmark can keep the peer running and take turns with it.
Everything runs on one thread.
"""

import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "quality"))


def serve(measure, files):
    """Calls `measure(path)`, which gives rows (see `timed_rows`), for each file, or each line of standard input if there are none."""
    for path in files or map(str.strip, sys.stdin):
        print(json.dumps([{"file": os.path.basename(path), **row} for row in measure(path)]), flush=True)


def timed_rows(name, raw_bytes, element_bytes, encode, decode, repeats=3, warm_up=True):
    """Rows of megabytes (10^6 bytes of the original) a second, by the wall clock and by the CPU time of the whole process."""
    if warm_up:
        decode(encode())
    rows = []
    for _ in range(repeats):
        encoded, encode_wall, encode_cpu = timed(encode)
        _, decode_wall, decode_cpu = timed(lambda: decode(encoded))
        rows.append(
            {
                "name": name,
                "bits_per_value": len(encoded) * 8 * element_bytes / raw_bytes,
                "encode_MBps": raw_bytes / encode_wall / 1e6,
                "decode_MBps": raw_bytes / decode_wall / 1e6,
                "encode_cpu_MBps": raw_bytes / encode_cpu / 1e6,
                "decode_cpu_MBps": raw_bytes / decode_cpu / 1e6,
            }
        )
    return rows


def timed(work):
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def tensor_bytes(path):
    """The raw bytes of a capture's K and V, in the file's order, and the bytes of one element."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        planes = [entry for name, entry in header.items() if name.startswith("layers.")]
        data = file.read()
    element_bytes = {"BF16": 2, "F16": 2, "F32": 4}[planes[0]["dtype"]]
    spans = sorted(entry["data_offsets"] for entry in planes)
    return b"".join(data[start:end] for start, end in spans), element_bytes
