"""What is measured: each codec writes a chunk's bytes to a file, and gives the chunk back from that file alone."""

import os
import subprocess

from captures import read_capture


class Kvreel:
    """One coder and rung of the `kvreel` command."""

    def __init__(self, command, coder, rung):
        self.name = f"kvreel {coder} {rung}"
        self._command = command
        self._coder = coder
        self._rung = rung

    def encode(self, capture, encoded):
        self._run("encode", capture, "-o", encoded, "--quality", self._rung, "--codec", self._coder)

    def decode(self, encoded):
        restored = f"{encoded}.safetensors"
        self._run("decode", encoded, "-o", restored)
        planes = read_capture(restored)
        os.remove(restored)
        return planes

    def _run(self, *arguments):
        done = subprocess.run([*self._command, *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"kvreel {' '.join(arguments)} failed:\n{done.stderr or done.stdout}")


class LmcacheCacheGen:
    """LMCache's CacheGen; the file holds the bytes that LMCache would store."""

    name = "lmcache cachegen"

    def __init__(self, model_directory):
        self._model_directory = model_directory
        self._codecs = {}

    def encode(self, capture, encoded):
        keys, values = read_capture(capture)
        codec = self._codec(keys.shape)
        with open(encoded, "wb") as file:
            file.write(codec.encode(codec.pack(keys, values)))

    def decode(self, encoded):
        codec = self._last
        with open(encoded, "rb") as file:
            return codec.unpack(codec.decode(file.read()))

    def _codec(self, shape):
        from cachegen import CacheGen  # here, because importing LMCache takes seconds

        if shape not in self._codecs:
            self._codecs[shape] = CacheGen(self._model_directory, shape)
        self._last = self._codecs[shape]
        return self._last
