"""What LMCache's tensors are taken for. Needs no torch: shapes are tuples and dtypes their names."""

import unittest

from kvreel import Geometry, Rope
from kvreel.lmcache_layout import Group, Layouts, Stated, as_bytes, understood

BF16 = "torch.bfloat16"


def stated(order: str, kv_heads: int = 3, head_dim: int = 64, **more: object) -> Stated:
    return Stated.from_params({"order": order, "kv_heads": kv_heads, "head_dim": head_dim, **more})


class LayoutTest(unittest.TestCase):
    def test_layouts_that_agree_with_what_is_stated_are_understood(self) -> None:
        cases = [
            # SmolLM2 as the multiprocess mode has it on CPU and on GPU, and as the in-process mode has it.
            ("vllm_cpu_rows", {"block_tokens": 32}, (30, 256, 384), Geometry("vllm_cpu_rows", "bf16", 30, 3, 64, 32)),
            ("fused", {}, (30, 256, 384), Geometry("fused", "bf16", 30, 3, 64)),
            ("fused", {}, (1, 30, 17, 384), Geometry("fused", "bf16", 30, 3, 64)),
            ("lmcache_2ltd", {}, (2, 30, 256, 192), Geometry("lmcache_2ltd", "bf16", 30, 3, 64)),
            ("mla", {"kv_heads": 1, "head_dim": 576}, (61, 256, 576), Geometry("mla", "bf16", 61, 1, 576)),
        ]
        for order, more, shape, geometry in cases:
            with self.subTest(order=order, shape=shape):
                self.assertEqual(understood((Group(shape, BF16),), stated(order, **{"kv_heads": 3, "head_dim": 64, **more})), geometry)

    def test_layouts_that_do_not_are_not(self) -> None:
        rope = {"theta": [1.0, 2.0], "style": "half"}
        cases = [
            (Stated(), [Group((30, 256, 384), BF16)]),
            (stated("fused"), [Group((30, 256, 385), BF16)]),
            (stated("fused"), [Group((2, 30, 256, 384), BF16)]),
            (stated("fused"), [Group((256, 384), BF16)]),
            (stated("fused"), [Group((30, 256, 384), "torch.float64")]),
            (stated("fused"), [Group((30, 256, 384), BF16)] * 2),
            (stated("lmcache_2ltd"), [Group((30, 256, 192), BF16)]),
            (stated("vllm_cpu_rows", block_tokens=32), [Group((30, 48, 384), BF16)]),
            (stated("fused", rope=rope), [Group((30, 256, 384), BF16)]),
        ]
        for said, groups in cases:
            with self.subTest(said=said, groups=[str(group) for group in groups]), self.assertRaises(ValueError):
                understood(tuple(groups), said)

    def test_others_are_bytes_in_rows_of_their_element_type(self) -> None:
        cases = [
            ([Group((30, 256, 384), BF16)], Geometry.of_bytes("bf16", 384)),
            ([Group((15, 256, 512), BF16), Group((3, 256, 768), BF16)], Geometry.of_bytes("bf16", 256)),
            ([Group((15, 256, 512), BF16), Group((3, 256, 768), "torch.float32")], Geometry.of_bytes("u8", 1024)),
            ([Group((8, 16), "torch.float64")], Geometry.of_bytes("u8", 128)),
            ([Group((8, 16), "torch.float8_e4m3fnuz")], Geometry.of_bytes("u8", 16)),
            ([Group((8, 16), "torch.int8")], Geometry.of_bytes("u8", 16)),
            ([Group((1024,), BF16)], Geometry.of_bytes("bf16", 128)),
            ([Group((7,), BF16)], Geometry.of_bytes("bf16", 1)),
        ]
        for groups, geometry in cases:
            with self.subTest([str(group) for group in groups]):
                self.assertEqual(as_bytes(tuple(groups)), geometry)

    def test_one_warning_says_why_and_bytes_are_exact(self) -> None:
        layouts = Layouts(Stated(quality="near"))
        layout = (Group((30, 256, 384), BF16),)
        with self.assertLogs("kvreel", "WARNING") as logs:
            for tokens in (256, 128, 256):
                layouts.geometry((Group((30, tokens, 384), BF16),))
        self.assertEqual(len(logs.records), 1, logs.output)
        self.assertEqual(layouts.quality(layouts.geometry(layout)), "exact")
        self.assertEqual(Layouts(Stated(quality="near")).quality(Geometry("fused", "bf16", 30, 3, 64)), "near")

    def test_statements_that_cannot_be_are_refused(self) -> None:
        cases: list[dict[str, object]] = [
            {"order": "rows", "kv_heads": 1, "head_dim": 1},
            {"order": "fused", "kv_heads": 0, "head_dim": 64},
            {"order": "fused", "kv_heads": 3, "head_dim": "64"},
            {"order": "vllm_cpu_rows", "kv_heads": 3, "head_dim": 64},
            {"order": "mla", "kv_heads": 2, "head_dim": 64},
            {"order": "fused", "kv_heads": 3, "head_dim": 64, "rope": {"style": "half"}},
            {"order": "fused", "kv_heads": 3, "head_dim": 64, "rope": 10_000},
            {"kv_heads": 3},
        ]
        for params in cases:
            with self.subTest(params), self.assertRaises((TypeError, ValueError)):
                Stated.from_params(params)

    def test_rope_is_carried(self) -> None:
        said = stated("fused", rope={"theta": 100_000, "style": "half"})
        self.assertEqual(understood((Group((30, 256, 384), BF16),), said).rope, Rope(100_000, "half"))


if __name__ == "__main__":
    unittest.main()
