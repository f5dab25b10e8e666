"""Makes files of int8 values from captures of real KV, for hevc_oracle and hevc_bench: quantise_captures.py <directory> <capture.safetensors> ...

Per channel of each plane the mean is removed; the step is a part of the channel's sigma ("channel") or of the plane's rms
("layer"). Values stand channel by channel with the tokens contiguous, planes in turn ("natural") or all channels of the chunk
by their sigma ("sorted").
"""

import json
import os
import struct
import sys

import numpy


def planes(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    names = sorted((name for name in header if name.startswith("layers.")), key=lambda name: (int(name.split(".")[1]), name))
    for name in names:
        start, end = header[name]["data_offsets"]
        bits = numpy.frombuffer(data[start:end], "<u2").astype(numpy.uint32) << 16
        heads, tokens, dim = header[name]["shape"]
        yield bits.view(numpy.float32).reshape(heads, tokens, dim).transpose(0, 2, 1).reshape(heads * dim, tokens)


def main(directory, *captures):
    os.makedirs(directory, exist_ok=True)
    for capture in captures:
        centred = [plane - plane.mean(axis=1, keepdims=True) for plane in planes(capture)]
        for scheme, parts in (("channel", (1.0, 0.4)), ("layer", (1.0, 0.3))):
            for part in parts:
                rows = []
                for plane in centred:
                    step = plane.std(axis=1, keepdims=True) if scheme == "channel" else numpy.sqrt((plane**2).mean())
                    rows.append(numpy.clip(numpy.rint(plane / (part * step + 1e-12)), -128, 127))
                values = numpy.concatenate(rows)
                base = os.path.join(directory, os.path.basename(capture).split(".")[0])
                values.astype(numpy.int8).tofile(f"{base}-{scheme}-{part}-natural.i8")
                values[numpy.argsort(values.std(axis=1), kind="stable")].astype(numpy.int8).tofile(f"{base}-{scheme}-{part}-sorted.i8")


if __name__ == "__main__":
    main(*sys.argv[1:])
