"""A causal language model whose KV cache can be taken out and put back."""

import os

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

torch.set_grad_enabled(False)


class Model:
    """Computes in float32, so that what is measured is the cache's error alone; the cache itself is bfloat16."""

    def __init__(self, directory):
        self.name = os.path.basename(os.path.normpath(directory))
        self.directory = directory
        self._tokenizer = AutoTokenizer.from_pretrained(directory)
        self._model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        self.rope_theta = rope_theta(self._model.config)

    def token_ids(self, text, count):
        """The first `count` tokens of a text. Raises if it has fewer."""
        ids = self._tokenizer(text, add_special_tokens=False).input_ids
        # Gemma does not work without its first token, and tokenizers converted from GGUF do not add it.
        if self._model.config.model_type.startswith("gemma"):
            ids = [self._tokenizer.bos_token_id, *ids]
        if len(ids) < count:
            raise ValueError(f"the text has {len(ids)} tokens, {count} are needed")
        return ids[:count]

    def prefill(self, ids):
        """The KV cache of a prefix: (keys, values), each [layers, kv_heads, tokens, head_dim] in bfloat16."""
        # Without a config, sliding-window layers keep all tokens too; attention still looks at the window only.
        cache = DynamicCache()
        self._model(torch.tensor([ids]), past_key_values=cache, logits_to_keep=1)
        keys = torch.stack([layer.keys[0] for layer in cache.layers])
        values = torch.stack([layer.values[0] for layer in cache.layers])
        return keys.bfloat16(), values.bfloat16()

    def log_probs(self, ids, keys, values):
        """Log probabilities after each of `ids` (which follow the cached prefix), [tokens, vocabulary] in float64."""
        cache = DynamicCache()
        for layer, (k, v) in enumerate(zip(keys, values, strict=True)):
            cache.update(k[None].float(), v[None].float(), layer)
        positions = torch.arange(keys.shape[2], keys.shape[2] + len(ids))[None]
        logits = self._model(torch.tensor([ids]), past_key_values=cache, position_ids=positions).logits[0]
        return torch.log_softmax(logits.double(), -1)


def rope_theta(config):
    """One theta, or one a layer where they differ; None where RoPE is scaled or partial, so that K is left as it is."""
    parameters = config.rope_parameters
    layer_types = getattr(config, "layer_types", None) or []
    by_layer = [parameters[kind] for kind in layer_types] if layer_types and layer_types[0] in parameters else [parameters]
    if any(each.get("rope_type", "default") != "default" or each.get("partial_rotary_factor", 1.0) != 1.0 for each in by_layer):
        return None
    thetas = [each["rope_theta"] for each in by_layer]
    return thetas[0] if len(set(thetas)) == 1 else thetas
