"""Captures: `.safetensors` files of one chunk's real KV, as the `kvreel` command reads and writes them.

Tensors `layers.<i>.k` and `layers.<i>.v` of shape [kv_heads, tokens, head_dim] (K after RoPE) and `token_ids`.
"""

import json

import torch
from safetensors import safe_open
from safetensors.torch import save_file

LAYOUT = "layers.<i>.{k,v}: [kv_heads, tokens, head_dim]; K after RoPE (rotate-half)"


def write_capture(path, keys, values, token_ids, *, model, start, rope_theta=None):
    """Writes one chunk; `keys` and `values` hold one tensor a layer. `rope_theta` is a number or one number a layer."""
    tensors = {"token_ids": torch.as_tensor(token_ids, dtype=torch.int32)}
    for layer, (k, v) in enumerate(zip(keys, values, strict=True)):
        tensors[f"layers.{layer}.k"] = k.contiguous()
        tensors[f"layers.{layer}.v"] = v.contiguous()
    metadata = {"model": model, "dtype": "bfloat16", "layout": LAYOUT, "start": str(start)}
    if rope_theta is not None:
        metadata["rope_theta"] = json.dumps(rope_theta)
    save_file(tensors, path, metadata)


def read_capture(path):
    """Gives (keys, values): one stacked tensor each, [layers, kv_heads, tokens, head_dim]."""
    with safe_open(path, "pt") as file:
        layers = sum(name.endswith(".k") for name in file.keys())
        return tuple(torch.stack([file.get_tensor(f"layers.{layer}.{plane}") for layer in range(layers)]) for plane in "kv")


def read_metadata(path):
    """Gives the capture's metadata, all strings."""
    with safe_open(path, "pt") as file:
        return file.metadata() or {}
