"""LMCache's CacheGen (lossy, about 4.6 bits) on the CPU: cachegen_peer.py [FILE ...]"""

import functools
import json
import os
import sys
import tempfile

import torch
from peer import serve, timed_rows

from cachegen import CacheGen
from captures import read_capture

torch.set_num_threads(1)


@functools.cache
def codec_for(shape):
    with tempfile.TemporaryDirectory() as directory:
        # CacheGen takes the number of layers from a model's config.json, and nothing else.
        with open(os.path.join(directory, "config.json"), "w") as file:
            json.dump({"model_type": "llama", "num_hidden_layers": shape[0]}, file)
        codec = CacheGen(directory, shape)
    packed = torch.randn(2, shape[0], shape[2], shape[1] * shape[3]).bfloat16()
    codec.decode(codec.encode(packed))  # compiles its kernels
    return codec


def measure(path):
    keys, values = read_capture(path)
    codec = codec_for(keys.shape)
    packed = codec.pack(keys, values)
    encode = functools.partial(codec.encode, packed)
    return timed_rows("lmcache cachegen", packed.nbytes, packed.element_size(), encode, codec.decode, repeats=1, warm_up=False)


serve(measure, sys.argv[1:])
