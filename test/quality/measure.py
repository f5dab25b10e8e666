"""How much a codec changes what a model says: bits per value beside the KL divergence, on real KV.

A prefix of real text is run through the model; its KV cache is written as captures of 256 tokens, encoded, decoded and put
back; the model then scores the text's next tokens. The reference is the same with the cache as it was. LMCache's own CacheGen
goes through the same chunks and the same scoring. Bits are those of the files as stored, side information and headers included.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile

import torch

import texts as default_texts
from captures import write_capture
from contenders import Kvreel, LmcacheCacheGen
from convert import model_directory
from model import Model

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
CHUNK_TOKENS = 256


def main():
    options = parse_arguments()
    model = Model(model_directory(options.model))
    codecs = [Kvreel(shlex.split(options.kvreel), options.coder, rung) for rung in options.rungs.split(",") if rung]
    if not options.no_cachegen:
        codecs.append(LmcacheCacheGen(model.directory))
    chosen = {path: read_text(path) for path in options.texts} if options.texts else default_texts.load()
    results = {codec.name: {} for codec in codecs}
    for name, text in chosen.items():
        ids = model.token_ids(text, options.prefix + options.score)
        for codec, result in measure_text(model, ids, options.prefix, codecs):
            results[codec.name][name] = result
            print(f"{name}: {codec.name} {result['bits_per_value']:.3f} bits, KL {result['kl']:.2e}", file=sys.stderr, flush=True)
    rows = [{"codec": name, **mean_of(list(by_text.values())), "texts": by_text} for name, by_text in results.items()]
    report = {"model": model.name, "prefix_tokens": options.prefix, "scored_tokens": options.score, "rows": rows}
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print_table(report)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a Hugging Face model directory, or a .gguf file (converted once, then cached)")
    parser.add_argument("--texts", nargs="+", metavar="FILE", help="UTF-8 texts (default: eight that a Debian machine and this folder have)")
    parser.add_argument("--rungs", default="q7,q6,q5,q4,q3,q2", help="rungs to measure, separated by commas; empty: CacheGen alone (default: %(default)s)")
    parser.add_argument("--coder", default="rans", help="the kvreel coder that carries them (default: %(default)s)")
    parser.add_argument("--prefix", type=int, default=1024, help="tokens whose cache is encoded, a multiple of 256 (default: %(default)s)")
    parser.add_argument("--score", type=int, default=128, help="tokens after the prefix that are scored (default: %(default)s)")
    parser.add_argument("--kvreel", default=f"node {shlex.quote(os.path.relpath(os.path.join(ROOT, 'dist/connectors/engine/cli.js')))}", help="the command (default: %(default)s)")
    parser.add_argument("--no-cachegen", action="store_true", help="leave LMCache's CacheGen out, for machines without the lmcache package")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")
    options = parser.parse_args()
    if options.prefix < CHUNK_TOKENS or options.prefix % CHUNK_TOKENS:
        parser.error(f"--prefix must be a multiple of {CHUNK_TOKENS}")
    return options


def read_text(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def measure_text(model, ids, prefix, codecs):
    """Yields (codec, result) for one text; no more than one decoded cache is held at a time."""
    keys, values = model.prefill(ids[:prefix])
    reference = model.log_probs(ids[prefix:], keys, values)
    with tempfile.TemporaryDirectory(prefix="kvreel-quality-") as folder:
        captures = write_captures(folder, model, ids, keys, values)
        for codec in codecs:
            stored_bytes = 0
            decoded = []
            for capture in captures:
                encoded = os.path.join(folder, "encoded")
                codec.encode(capture, encoded)
                stored_bytes += os.path.getsize(encoded)
                decoded.append(codec.decode(encoded))
                os.remove(encoded)
            decoded_keys, decoded_values = (torch.cat(planes, dim=2) for planes in zip(*decoded, strict=True))
            result = {"bits_per_value": stored_bytes * 8 / (keys.numel() + values.numel())}
            result |= errors((keys, values), (decoded_keys, decoded_values))
            result |= divergence(reference, model.log_probs(ids[prefix:], decoded_keys, decoded_values))
            yield codec, result


def write_captures(folder, model, ids, keys, values):
    paths = []
    for start in range(0, keys.shape[2], CHUNK_TOKENS):
        chunk = slice(start, start + CHUNK_TOKENS)
        paths.append(os.path.join(folder, f"{start}.safetensors"))
        write_capture(paths[-1], keys[:, :, chunk], values[:, :, chunk], ids[chunk], model=model.name, start=start, rope_theta=model.rope_theta)
    return paths


def errors(original, decoded):
    difference = torch.cat([(a.float() - b.float()).abs().flatten() for a, b in zip(original, decoded, strict=True)])
    return {"max_abs_error": difference.max().item(), "mean_abs_error": difference.mean().item()}


def divergence(reference, measured):
    """KL(reference || measured) in nats, averaged over the scored tokens, and how often both name the same next token."""
    kl = (reference.exp() * (reference - measured)).sum(-1).mean().item()
    same = (reference.argmax(-1) == measured.argmax(-1)).double().mean().item()
    return {"kl": kl, "top1_percent": 100 * same}


def mean_of(results):
    row = {field: sum(result[field] for result in results) / len(results) for field in results[0]}
    row["max_abs_error"] = max(result["max_abs_error"] for result in results)
    row["worst_kl"] = max(result["kl"] for result in results)
    return row


def print_table(report):
    rows = report["rows"]
    print(f"{report['model']}: {report['prefix_tokens']} tokens cached, the next {report['scored_tokens']} scored, {len(rows[0]['texts'])} texts")
    print(f"{'codec':<22}{'bits/value':>11}{'ratio':>8}{'mean KL':>11}{'worst KL':>11}{'top-1 %':>9}{'max error':>11}{'mean error':>12}  beats CacheGen on")
    peer = next((row for row in rows if row["codec"] == LmcacheCacheGen.name), None)
    for row in rows:
        print(
            f"{row['codec']:<22}{row['bits_per_value']:>11.3f}{16 / row['bits_per_value']:>7.2f}x{row['kl']:>11.2e}{row['worst_kl']:>11.2e}"
            f"{row['top1_percent']:>9.2f}{row['max_abs_error']:>11.4f}{row['mean_abs_error']:>12.2e}  {better_axes(row, peer)}"
        )


def better_axes(row, peer):
    if peer is None or row is peer:
        return ""
    fields = {"bits": "bits_per_value", "KL": "kl"}
    return " and ".join(name for name, field in fields.items() if row[field] < peer[field]) or "neither"


if __name__ == "__main__":
    main()
