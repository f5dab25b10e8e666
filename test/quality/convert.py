"""Turns a GGUF file into a Hugging Face directory: convert.py FILE.gguf DIRECTORY"""

import os
import shutil
import sys

CACHE = os.environ.get("KV_CACHE_DIR") or os.path.join(os.path.expanduser("~"), ".cache", "kvreel")


def model_directory(path):
    """The directory itself, or for a GGUF file a converted one, which is made once and kept in the cache folder."""
    if not path.endswith(".gguf"):
        return path
    target = os.path.join(CACHE, "models", os.path.basename(path).removesuffix(".gguf"))
    if not os.path.exists(target):
        convert(path, target)
    return target


def convert(path, target):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, name = os.path.split(os.path.abspath(path))
    # Without `dequantize` the blocks stay packed and cannot be saved.
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    partial = f"{target}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    os.rename(partial, target)


if __name__ == "__main__":
    convert(*sys.argv[1:])
