"""Lets LMCache's own connectors and adapters write and read objects: objects.py

Takes one JSON job a line on standard input and answers each with a JSON line: {"ok": true} or {"error": TEXT}. A job:

    form     fs, fs-raw, redis, resp, valkey, s3 or lm (connectors of the engine's process); mp-fs, mp-resp or mp-s3 (multiprocess adapters)
    action   write: fill tensors with bits drawn from their file's name (so NaN too), store them, and leave the bytes in the objects' `file`;
             read: load them and leave what came in `file`
    place    path; or host and port; or endpoint, access_key and secret_key: where
    dtype    as torch names it
    shape    [kv_size, layers, tokens, hidden] of a full chunk
    objects  [{key: the parts of CacheEngineKey or ObjectKey, file, tokens?: of a chunk that is not full}]
"""

import asyncio
import json
import os
import random
import sys
import threading
import time

os.environ["LMCACHE_LOG_LEVEL"] = "ERROR"
os.environ["LMCACHE_TRACK_USAGE"] = "false"
# LMCache prints while it is imported and when it fails; our standard output is for answers.
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import torch
from lmcache.utils import CacheEngineKey
from lmcache.v1.config import LMCacheEngineConfig
from lmcache.v1.distributed.api import ObjectKey
from lmcache.v1.distributed.l2_adapters import create_l2_adapter
from lmcache.v1.distributed.l2_adapters.config import get_l2_adapter_config_class
from lmcache.v1.memory_management import MemoryFormat, MemoryObjMetadata, TensorMemoryObj
from lmcache.v1.metadata import LMCacheMetadata
from lmcache.v1.storage_backend.connector import CreateConnector
from lmcache.v1.storage_backend.local_cpu_backend import LocalCPUBackend

LIMIT_S = 30
REGION = "us-east-1"
LOOPS = []


def main():
    for line in sys.stdin:
        try:
            job = json.loads(line)
            (multiprocess if job["form"].startswith("mp-") else in_process)(job)
            answer = {"ok": True}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
    # Not by sys.exit: connectors are never closed (see in_process), and their threads would be waited for.
    os._exit(0)


def in_process(job):
    """A connector of the engine's process."""
    kv_size, layers, tokens, hidden = job["shape"]
    config = LMCacheEngineConfig.from_defaults(
        chunk_size=tokens,
        remote_url=url_of(job),
        max_local_cpu_size=0.01,
        save_unfull_chunk=job["form"] in ("fs", "redis", "lm"),
        extra_config=extra_config(job),
    )
    metadata = LMCacheMetadata(
        model_name="unused",
        world_size=1,
        local_world_size=1,
        worker_id=0,
        local_worker_id=0,
        kv_dtype=getattr(torch, job["dtype"]),
        kv_shape=(layers, kv_size, tokens, 1, hidden),
        use_mla=kv_size == 1,
        chunk_size=tokens,
    )
    memory = LocalCPUBackend(config, metadata, "cpu")
    # A loop of its own, and no close(): in 0.5.6 a RedisConnector's close() waits on its own loop for that loop, for ever.
    loop = asyncio.new_event_loop()
    LOOPS.append(loop)
    threading.Thread(target=loop.run_forever, daemon=True).start()
    connector = CreateConnector(config.remote_url, loop, memory, config, metadata)
    wait = lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(LIMIT_S)
    for entry in job["objects"]:
        key = engine_key(entry["key"])
        if job["action"] == "write":
            shapes = metadata.get_shapes(entry.get("tokens", tokens))
            stored = memory.allocate(shapes, metadata.get_dtypes(), MemoryFormat.KV_MLA_FMT if kv_size == 1 else MemoryFormat.KV_2LTD)
            fill(stored, entry["file"])
            wait(connector.put(key, stored))
            # The connectors report their failures to the log only.
            if not wait(connector.exists(key)):
                raise RuntimeError(f"{key.to_string()} was not stored")
        else:
            loaded = wait(connector.get(key))
            if loaded is None:
                raise RuntimeError(f"{key.to_string()} was not found")
            save(loaded, entry["file"])


def url_of(job):
    place = job["place"]
    form = job["form"]
    if form in ("fs", "fs-raw"):
        return f"fs://host:0{place['path']}"
    if form == "s3":
        return f"s3://{place['endpoint']}"
    return f"{form}://{place['host']}:{place['port']}"


def extra_config(job):
    if job["form"] in ("fs", "redis", "lm"):
        return None
    extra = {"save_chunk_meta": False}
    if job["form"] == "s3":
        place = job["place"]
        extra |= {"s3_region": REGION, "disable_tls": True, "s3_prefer_http2": False, "s3_num_io_threads": 1}
        extra |= {"aws_access_key_id": place["access_key"], "aws_secret_access_key": place["secret_key"]}
    return extra


def engine_key(key):
    tags = {f"lmcache.tag.{name}": value for name, value in key.get("tags", [])}
    dtype = getattr(torch, key["dtype"])
    return CacheEngineKey(key["model"], key["world_size"], key["worker_id"], int(key["hash"], 16), dtype, tags)


def multiprocess(job):
    """An L2 adapter of the multiprocess server."""
    adapter = make_adapter(job)
    dtype = getattr(torch, job["dtype"])
    shape = torch.Size(job["shape"])
    keys = [object_key(entry["key"]) for entry in job["objects"]]
    objects = [memory_of(shape, dtype) for _ in keys]
    try:
        if job["action"] == "write":
            for stored, entry in zip(objects, job["objects"]):
                fill(stored, entry["file"])
            task = adapter.submit_store_task(keys, objects)
            result = poll(lambda: adapter.pop_completed_store_tasks().get(task))
            if not result.is_successful():
                raise RuntimeError(f"the adapter did not store: {result}")
        else:
            task = adapter.submit_load_task(keys, objects)
            bitmap = poll(lambda: adapter.query_load_result(task))
            missing = [str(key) for i, key in enumerate(keys) if not bitmap.test(i)]
            if missing:
                raise RuntimeError(f"not loaded: {missing}")
            for loaded, entry in zip(objects, job["objects"]):
                save(loaded, entry["file"])
    finally:
        adapter.close()


def make_adapter(job):
    place = job["place"]
    spec = {"type": job["form"].removeprefix("mp-")}
    if spec["type"] == "fs":
        spec["base_path"] = place["path"]
    elif spec["type"] == "s3":
        spec |= {"s3_endpoint": place["endpoint"], "s3_region": REGION, "disable_tls": True, "s3_prefer_http2": False, "s3_num_io_threads": 1}
        spec |= {"aws_access_key_id": place["access_key"], "aws_secret_access_key": place["secret_key"]}
    else:
        spec |= {"host": place["host"], "port": place["port"]}
    return create_l2_adapter(get_l2_adapter_config_class(spec["type"]).from_dict(spec))


def object_key(key):
    return ObjectKey(bytes.fromhex(key["hash"]), key["model"], key["kv_rank"], key.get("object_group", 0), key.get("cache_salt", ""))


def memory_of(shape, dtype):
    tensor = torch.zeros(shape.numel() * dtype.itemsize, dtype=torch.uint8)
    metadata = MemoryObjMetadata(shape=shape, dtype=dtype, address=0, phy_size=tensor.numel(), ref_count=1, fmt=MemoryFormat.KV_2LTD)
    return TensorMemoryObj(raw_data=tensor, metadata=metadata, parent_allocator=None)


def fill(memory, path):
    data = random.Random(os.path.basename(path)).randbytes(len(memory.byte_array))
    memoryview(memory.byte_array).cast("B")[:] = data
    with open(path, "wb") as file:
        file.write(data)


def save(memory, path):
    with open(path, "wb") as file:
        file.write(memory.byte_array)


def poll(ask):
    deadline = time.monotonic() + LIMIT_S
    while (answer := ask()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError("the adapter does not answer")
        time.sleep(0.005)
    return answer


if __name__ == "__main__":
    main()
