"""The rotary embedding of a model's K, read from its config where it is one that the daemon can undo."""

from typing import Any

from .space import Rope

HALF = (
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "granite",
    "llama",
    "mistral",
    "mixtral",
    "olmo2",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "smollm3",
    "starcoder2",
)
"""Model types that pair dim i with i + half. Of others nothing is said: a wrong guess would cost size, though never a wrong byte."""


def rope_of(config: Any, is_windowed: bool) -> Rope | None:
    """`config` is the text model's Hugging Face config. None where there is no plain rotation of all dims."""
    if getattr(config, "model_type", None) not in HALF:
        return None
    found = getattr(config, "rope_parameters", None)
    if not isinstance(found, dict):
        return None
    by_kind = found.get("sliding_attention" if is_windowed else "full_attention")
    parameters = by_kind if isinstance(by_kind, dict) else found
    theta = parameters.get("rope_theta")
    is_plain = parameters.get("rope_type", "default") == "default" and parameters.get("partial_rotary_factor", 1) in (None, 1, 1.0)
    return Rope(float(theta)) if is_plain and isinstance(theta, (int, float)) else None
