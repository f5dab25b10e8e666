"""LMCache's own CacheGen, from the real package on the CPU, with its default settings.

Its bytes are pickled: only ever give it bytes that it made itself.
"""

import contextlib
import os
import sys

import torch

os.environ.setdefault("LMCACHE_LOG_LEVEL", "ERROR")
# LMCache prints while it is imported; our standard output is for JSON.
with contextlib.redirect_stdout(sys.stderr):
    from lmcache.v1.config import LMCacheEngineConfig
    from lmcache.v1.memory_management import BytesBufferMemoryObj, MemoryFormat, MemoryObjMetadata, TensorMemoryObj
    from lmcache.v1.metadata import LMCacheMetadata
    from lmcache.v1.storage_backend.naive_serde import CreateSerde


class CacheGen:
    """Encodes and decodes chunks of one shape. `model_directory` holds a config.json: CacheGen reads the number of layers from it."""

    def __init__(self, model_directory, shape, dtype=torch.bfloat16):
        self._layers, self._heads, self._tokens, self._dim = shape
        config = LMCacheEngineConfig.from_defaults(chunk_size=self._tokens)
        metadata = LMCacheMetadata(
            model_name=model_directory,
            world_size=1,
            local_world_size=1,
            worker_id=0,
            local_worker_id=0,
            kv_dtype=dtype,
            kv_shape=(self._layers, 2, self._tokens, self._heads, self._dim),
            chunk_size=self._tokens,
        )
        self._serializer, self._deserializer = CreateSerde("cachegen", metadata, config)

    def pack(self, keys, values):
        """A capture's planes as LMCache holds them: [2, layers, tokens, kv_heads * head_dim]."""
        return torch.stack([keys, values]).transpose(2, 3).reshape(2, self._layers, self._tokens, -1).contiguous()

    def unpack(self, tensor):
        """The inverse of `pack`: (keys, values)."""
        keys, values = tensor.reshape(2, self._layers, self._tokens, self._heads, self._dim).transpose(2, 3)
        return keys, values

    def encode(self, tensor):
        """The encoded bytes of a packed tensor."""
        metadata = MemoryObjMetadata(
            shape=tensor.shape,
            dtype=tensor.dtype,
            address=0,
            phy_size=tensor.numel() * tensor.element_size(),
            ref_count=1,
            fmt=MemoryFormat.KV_2LTD,
        )
        memory = TensorMemoryObj(raw_data=tensor, metadata=metadata, parent_allocator=None)
        return bytes(self._serializer.serialize(memory).byte_array)

    def decode(self, encoded):
        """The packed tensor of encoded bytes."""
        return self._deserializer.deserialize(BytesBufferMemoryObj(encoded)).tensor
