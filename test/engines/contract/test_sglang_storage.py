"""KvreelHiCache through SGLang's StorageBackendFactory, from the unpacked wheel: SGLang itself wants CUDA kernels and does not run here.

The pools below hold pages as SGLang's MHATokenToKVPoolHost does; that class cannot be imported without its kernels.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

WHEEL = os.environ["KVREEL_SGLANG"]
PAGE, LAYERS, HEADS, SIZE, SLOTS = 64, 3, 2, 32, 512


def import_sglang():
    """The storage interface without the packages' __init__ files."""
    for name in ("sglang", "sglang.srt", "sglang.srt.mem_cache", "sglang.srt.mem_cache.storage", "sglang.srt.utils"):
        package = ModuleType(name)
        package.__path__ = [os.path.join(WHEEL, name.replace(".", "/"))]
        sys.modules[name] = package
    sys.modules["sglang.srt.utils.common"] = ModuleType("sglang.srt.utils.common")
    sys.modules["sglang.srt.utils.common"].human_readable_int = str
    from sglang.srt.mem_cache.hicache_storage import HiCacheStorageConfig
    from sglang.srt.mem_cache.storage.backend_factory import StorageBackendFactory

    return HiCacheStorageConfig, StorageBackendFactory


HiCacheStorageConfig, StorageBackendFactory = import_sglang()


class Pool:
    """As much of a host pool as SGLang's storage calls touch."""

    page_size, layer_num, head_num, head_dim, v_head_dim = PAGE, LAYERS, HEADS, SIZE, SIZE

    def __init__(self, layout, dtype=torch.bfloat16):
        self.layout, self.dtype = layout, dtype
        tokens = {"layer_first": (LAYERS, SLOTS), "page_first": (SLOTS, LAYERS), "page_unified": (LAYERS, SLOTS)}[layout]
        generator = torch.Generator().manual_seed(5)
        self.kv_buffer = torch.randn((2, *tokens, HEADS, SIZE), generator=generator).to(dtype)

    def _page(self, index):
        along = 1 if self.layout == "page_first" else 2
        return self.kv_buffer.narrow(along, index, PAGE)

    def get_data_page(self, index, flat=True):
        return self._page(index).flatten()

    def get_dummy_flat_data_page(self):
        return torch.zeros(2 * LAYERS * PAGE * HEADS * SIZE, dtype=self.dtype)

    def set_from_flat_data_page(self, index, data):
        page = self._page(index)
        page.copy_(data.reshape(page.shape))


def backend(address, pool=None, model="org/model", rank=0, of=1, **more):
    extra = {
        "backend_name": "kvreel",
        "module_path": "kvreel.sglang_storage",
        "class_name": "KvreelHiCache",
        "interface_v1": 1,
        "address": address,
        **more,
    }
    config = HiCacheStorageConfig(
        tp_rank=rank,
        tp_size=of,
        pp_rank=0,
        pp_size=1,
        attn_cp_rank=0,
        attn_cp_size=1,
        is_mla_model=False,
        enable_storage_metrics=False,
        is_page_first_layout=False,
        model_name=model,
        extra_config=extra,
    )
    made = StorageBackendFactory.create_backend("dynamic", config, pool)
    if pool is not None:
        made.register_mem_pool_host(pool)
    return made


def hashes(count):
    return [os.urandom(32).hex() for _ in range(count)]


@pytest.mark.parametrize(
    ("layout", "dtype", "order"),
    [
        ("layer_first", torch.bfloat16, "sglang_layer_first"),
        ("page_first", torch.float16, "sglang_page_first"),
        ("page_unified", torch.bfloat16, "bytes"),
        ("layer_first", torch.float8_e4m3fn, "bytes"),
    ],
)
def test_pages_come_back_into_other_slots(address, layout, dtype, order):
    pool = Pool(layout, dtype)
    storage = backend(address, pool)
    assert storage._pages.geometry.order == order
    keys = hashes(3)
    slots = torch.arange(3 * PAGE)
    before = [pool.get_data_page(i * PAGE).clone() for i in range(3)]
    assert storage.batch_exists(keys) == 0
    assert storage.batch_get_v1(keys, slots) == [False] * 3
    assert storage.batch_set_v1(keys[:2], slots) == [True, True]
    assert storage.batch_exists(keys) == 2
    assert storage.batch_get_v1(keys, slots + 3 * PAGE) == [True, True, False]
    for i in range(2):
        assert torch.equal(pool.get_data_page((3 + i) * PAGE).view(torch.uint8), before[i].view(torch.uint8))
    storage.close()


def test_the_calls_without_a_pool_index(address):
    pool = Pool("layer_first")
    storage = backend(address, pool)
    keys = [*hashes(2), "a key of another form_0_1"]
    pages = [pool.get_data_page(i * PAGE) for i in range(3)]
    assert storage.batch_set(keys, pages)
    targets = [pool.get_dummy_flat_data_page() for _ in range(4)]
    found = storage.batch_get([*keys, hashes(1)[0]], targets)
    assert all(torch.equal(page, back) for page, back in zip(pages, found[:3], strict=True)) and found[3] is None
    assert storage.exists(keys[2]) and not storage.exists(hashes(1)[0])
    assert torch.equal(storage.get(keys[0], targets[3]), pages[0])
    assert storage.set(hashes(1)[0], pages[0])
    storage.close()


def test_another_model_dtype_or_rank_is_a_miss(address):
    storage = backend(address, Pool("layer_first"))
    keys = hashes(1)
    assert storage.batch_set_v1(keys, torch.arange(PAGE)) == [True]
    others = [
        backend(address, Pool("layer_first"), model="org/other"),
        backend(address, Pool("layer_first", torch.float16)),
        backend(address, Pool("layer_first"), rank=1, of=2),
        backend(address, Pool("page_first")),
    ]
    assert [other.batch_exists(keys) for other in others] == [0] * 4
    assert [other.batch_get_v1(keys, torch.arange(PAGE)) for other in others] == [[False]] * 4
    assert backend(address, Pool("layer_first")).batch_exists(keys) == 1


def test_without_a_daemon_all_is_a_miss(tmp_path):
    pool = Pool("layer_first")
    storage = backend(str(tmp_path / "nobody.sock"), pool)
    keys = hashes(2)
    slots = torch.arange(2 * PAGE)
    assert storage.batch_exists(keys) == 0
    assert storage.batch_get_v1(keys, slots) == [False, False]
    assert storage.batch_set_v1(keys, slots) == [False, False]
    assert storage.get(keys[0], pool.get_dummy_flat_data_page()) is None
    assert storage.set(keys[0], pool.get_data_page(0)) is False


def test_calls_out_of_place_are_misses_too(address):
    storage = backend(address)
    assert storage.batch_get_v1(hashes(1), torch.arange(PAGE)) == [False]
    assert storage.batch_exists(hashes(1)) == 0
    assert storage.batch_get(hashes(2)) == [None, None]


def test_pages_are_named_as_our_own_hashes_expect():
    """fixtures/hashes/sglang.json holds what kvreel computes for SGLang; here the wheel's own hash computes it, in a process of its own."""
    imports = "import json, sys; from pathlib import Path; import generate_sglang as g"
    script = f"{imports}; print(json.dumps(list(g.records(g.import_hashes(Path(sys.argv[1]))))))"
    fixtures = Path(os.environ["KVREEL_REPOSITORY"], "fixtures/hashes")
    done = subprocess.run([sys.executable, "-c", script, WHEEL], cwd=fixtures, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == json.loads(fixtures.joinpath("sglang.json").read_text())
