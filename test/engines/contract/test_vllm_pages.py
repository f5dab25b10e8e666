"""What our connector takes vLLM's pages to be, beside vLLM's own kernel; and the arithmetic of hits."""

import itertools
import random
from types import SimpleNamespace

import pytest
import torch
from kvreel.space import Rope
from kvreel.vllm_hits import longest
from kvreel.vllm_layout import form_of, geometry_of
from kvreel.vllm_options import Options
from kvreel.vllm_rope import rope_of
from vllm import _custom_ops as ops

BLOCKS, HEADS, BLOCK, SIZE = 4, 2, 32, 64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("isa", ["vec", "vec16"])
def test_rows_of_a_cpu_page_are_tokens(dtype, isa):
    """vLLM's own kernel writes the pages."""
    pages = torch.zeros(BLOCKS, HEADS, BLOCK, 2 * SIZE, dtype=dtype)
    keys, values = (torch.randn(BLOCKS * BLOCK, HEADS, SIZE).to(dtype) for _ in range(2))
    halves = pages.view(BLOCKS, HEADS, 2 * BLOCK, SIZE).chunk(2, dim=2)
    ops.cpu_attn_reshape_and_cache(keys, values, *halves, torch.arange(BLOCKS * BLOCK), isa)
    rows = form_of("CPU_ATTN", isa, (HEADS, BLOCK, 2 * SIZE), SIZE, dtype).from_pages(pages)
    for which, tensor in enumerate((keys, values)):
        assert torch.equal(rows[:, :, which], tensor.view(BLOCKS, BLOCK, HEADS, SIZE).transpose(1, 2))


@pytest.mark.parametrize(
    ("backend", "isa", "dtype", "heads", "size", "content", "order"),
    [
        ("CPU_ATTN", "vec", torch.float32, 3, 64, 128, "vllm_cpu_pages"),
        ("CPU_ATTN", "amx", torch.bfloat16, 3, 64, 128, "bytes"),
        ("FLASH_ATTN", None, torch.bfloat16, 8, 128, 256, "fused"),
        ("FLASH_ATTN", None, torch.uint8, 8, 128, 256, "bytes"),
        ("FLASH_ATTN", None, torch.bfloat16, 8, 128, 272, "bytes"),
        ("FLASHMLA", None, torch.bfloat16, 1, 576, 576, "mla"),
        ("UNHEARD_OF", None, torch.float16, 8, 128, 256, "bytes"),
    ],
)
def test_pages_come_back_from_every_form(backend, isa, dtype, heads, size, content, order):
    pages = torch.randint(0, 255, (5, heads, BLOCK, content * dtype.itemsize), dtype=torch.uint8).view(dtype)
    form = form_of(backend, isa, (heads, BLOCK, content), size, dtype)
    assert form.order == order
    geometry = geometry_of(form, (heads, BLOCK, content), dtype, 7, None)
    assert geometry.token_bytes * 5 * BLOCK * (1 if order != "bytes" else 7 * heads) == 7 * pages.nbytes
    data = form.from_pages(pages).contiguous().view(torch.uint8).flatten()
    filled = torch.zeros_like(pages)
    form.fill_pages(filled, data.view(dtype))
    assert torch.equal(filled.view(torch.uint8), pages.view(torch.uint8))


def test_hits_are_what_every_part_needs():
    """Beside the plain definition, on many answers."""
    chooser = random.Random(3)
    for _ in range(3_000):
        total, chunk = chooser.randint(0, 7), 4
        windows = [None, *(chooser.choice([None, 1, 4, 5, 9, 100]) for _ in range(chooser.randint(0, 2)))]
        answers = [("".join(chooser.choice("1110") for _ in range(total)), window) for window in windows]
        first = chooser.randint(0, total)

        def is_loadable(end, answers=answers, first=first, chunk=chunk):
            # The next token is at position end * chunk and looks at `window` tokens, itself among them.
            return all(
                answer[position // chunk] == "1"
                for answer, window in answers
                for position in range(first * chunk if window is None else max(first * chunk, end * chunk - window + 1), end * chunk)
            )

        best = max([end for end in range(first, total + 1) if is_loadable(end)])
        assert longest(answers, first, chunk) == best


def test_open_answers_count_as_asked():
    assert longest([("11?1", None)], 0, 4) == 2
    assert longest([("11?1", None)], 0, 4, "1?") == 4


def config(model_type="llama", **parameters):
    return SimpleNamespace(model_type=model_type, rope_parameters={"rope_theta": 10_000.0, "rope_type": "default", **parameters})


def test_only_a_plain_rotation_is_told():
    assert rope_of(config(), False) == Rope(10_000.0)
    assert rope_of(config("never_heard_of"), False) is None
    assert rope_of(config(rope_type="yarn"), False) is None
    assert rope_of(config(partial_rotary_factor=0.5), False) is None
    assert rope_of(SimpleNamespace(model_type="llama"), False) is None
    kinds = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    gemma = SimpleNamespace(model_type="gemma3_text", rope_parameters=kinds)
    assert [rope_of(gemma, is_windowed) for is_windowed in (False, True)] == [Rope(1e6), Rope(1e4)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "address"),
        ({"address": "/socket", "chunk_tokens": 0}, "chunk_tokens"),
        ({"address": "/socket", "deadline": 3}, "deadline"),
        ({"address": "/socket", "token_file": "/nowhere/token"}, "token_file"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Options.from_config(settings)


def test_every_block_that_is_not_wanted_is_left_alone():
    from kvreel.vllm_parts import Layer, Part, WorkerPart

    pages = torch.zeros(14, HEADS, BLOCK, 2 * SIZE)
    form = form_of("CPU_ATTN", "vec", (HEADS, BLOCK, 2 * SIZE), SIZE, torch.float32)
    geometry = geometry_of(form, (HEADS, BLOCK, 2 * SIZE), torch.float32, 1, None)
    for pieces in (1, 2):
        pages.zero_()
        part = WorkerPart(Part((0,), None, "m", geometry, "", None, None), form, (Layer("layers.0", 0, pages),), pieces)
        blocks = (3, 0, 1, 5, 6, 0)
        written = torch.randn(len(blocks) * pieces, HEADS, BLOCK, 2 * SIZE)
        data = form.from_pages(written).contiguous().view(torch.uint8).flatten()
        part.write(0, blocks, data)
        changed = {block for block, page in enumerate(pages) if page.any()}
        wanted = [block for block in blocks if block > 0]
        assert changed == set(itertools.chain(*(range(block * pieces, (block + 1) * pieces) for block in wanted)))
        kept = [place * pieces + piece for place, block in enumerate(blocks) if block > 0 for piece in range(pieces)]
        assert torch.equal(part.read(0, wanted), form.from_pages(written[kept]))
