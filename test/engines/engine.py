"""engine.py JSON: a real vLLM on the CPU, in this process, that does what each line on stdin says and answers with a line on stdout.

JSON: {"model": directory, "dtype", "kv_transfer_config"?, ...further arguments of vllm.LLM}.
Lines: {"do": "generate", "prompts": [{"text", "tokens", "skip"?, "salt"?, "adapter"?}], "new", "logprobs"?}
           -> {"results": [{"tokens", "cached", "ttft_s", "seconds", "reason", "logprobs"?}]}
       {"do": "forget"}   forgets the engine's own prefix cache.
       {"do": "counts"}   what the connector counted.
       {"do": "pages"}    -> {"pages": {hash: digest}}: what all layers hold of each full block in the engine's own prefix cache.
A prompt is the first `tokens` tokens of the text, behind the model's BOS where it wants one. A list of prompts runs as one batch. With
"logprobs": true its results have the log-probability of each token to be the first new one.
"""

import hashlib
import json
import os
import sys
import time

# Before vLLM is imported. Stdout is for answers alone.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
os.environ.update(
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_NO_USAGE_STATS="1",
    HF_HUB_OFFLINE="1",
    VLLM_CPU_KVCACHE_SPACE="1",
    VLLM_LOGGING_LEVEL="WARNING",
)

from llvmlite.binding import ffi

# vLLM looks for __dict__ on every loaded module, and llvmlite's wrapper of its library has an answer to any name.
found = type(ffi.lib).__getattr__


def named(self, name):
    if name == "__dict__":
        raise AttributeError(name)
    return found(self, name)


type(ffi.lib).__getattr__ = named

import torch
from vllm import LLM, SamplingParams
from vllm.distributed.kv_transfer import get_kv_transfer_group, has_kv_transfer_group
from vllm.inputs import TokensPrompt
from vllm.lora.request import LoRARequest

settings = {"enforce_eager": True, "max_model_len": 4096, "block_size": 32, "seed": 0, "max_logprobs": -1, **json.loads(sys.argv[1])}
llm = LLM(**settings)
tokenizer = llm.get_tokenizer()
counted = 0


def tokens_of(prompt: dict) -> list[int]:
    skip = prompt.get("skip", 0)
    # The converted tokenizers add no BOS, and Gemma cannot do without.
    bos = [tokenizer.bos_token_id] if "gemma" in settings["model"] else []
    tokens = bos + tokenizer.encode(prompt["text"], add_special_tokens=False)[skip:]
    if len(tokens) < prompt["tokens"]:
        raise ValueError(f"the text has {len(tokens)} tokens, not {prompt['tokens']}")
    return tokens[: prompt["tokens"]]


def generate(prompts: list[dict], new: int, logprobs: bool) -> list[dict]:
    global counted
    engine = llm.llm_engine
    results = {}
    started = time.perf_counter()
    for prompt in prompts:
        counted += 1
        name = str(counted)
        adapter = prompt.get("adapter")
        lora = LoRARequest(adapter["name"], adapter["id"], adapter["path"]) if adapter else None
        parameters = SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, logprobs=-1 if logprobs else None)
        engine.add_request(
            name, TokensPrompt(prompt_token_ids=tokens_of(prompt), cache_salt=prompt.get("salt")), parameters, lora_request=lora
        )
        results[name] = {}
    while engine.has_unfinished_requests():
        for output in engine.step():
            seconds = time.perf_counter() - started
            result = results[output.request_id.split("-")[0]]
            if output.outputs[0].token_ids:
                result.setdefault("ttft_s", seconds)
            result.update(tokens=list(output.outputs[0].token_ids), cached=output.num_cached_tokens, seconds=seconds)
            result["reason"] = output.outputs[0].finish_reason
            if logprobs:
                first = output.outputs[0].logprobs[0]
                result["logprobs"] = [first[token].logprob for token in range(len(first))]
    return list(results.values())


def counts() -> dict:
    connector = get_kv_transfer_group() if has_kv_transfer_group() else None
    worker = getattr(connector, "_worker", None)
    if worker is None:
        return {}
    queue = worker._queue
    return {
        "client": connector._client.counters.snapshot(),
        "stored": queue.stored,
        "dropped": queue.dropped,
        "queued_bytes": queue._bytes,
        "discarded": worker.discarded,
        "layouts": [part.part.geometry.order for part in worker._parts],
    }


def pages() -> dict[str, str]:
    core = llm.llm_engine.engine_core.engine_core
    cached = core.scheduler.kv_cache_manager.block_pool.cached_block_hash_to_block
    layers = core.model_executor.driver_worker.worker.model_runner.kv_caches
    digests = {}
    for block_hash in cached._cache:
        block = cached.get_one_block(block_hash).block_id
        digest = hashlib.sha256()
        for layer in layers:
            digest.update(layer[block].view(torch.uint8).numpy())
        digests[block_hash.hex()] = digest.hexdigest()
    return digests


def answer(value: dict) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
answer({"ready": True})
for line in sys.stdin:
    job = json.loads(line)
    try:
        if job["do"] == "generate":
            answer({"results": generate(job["prompts"], job["new"], job.get("logprobs", False))})
        elif job["do"] == "forget":
            if settings.get("enable_prefix_caching", True) and not llm.reset_prefix_cache():
                raise RuntimeError("the prefix cache is in use")
            answer({})
        elif job["do"] == "pages":
            answer({"pages": pages()})
        else:
            answer(counts())
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}"})
llm.llm_engine.engine_core.shutdown()
