#!/bin/sh
# Makes a Python with the real LMCache, outside the checkout, unless it is there: 1.2 GB. Prints its path last.
# pip must be able to get a torch without CUDA; where its index has none, name one by PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
cache=${KV_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/kvreel}
lmcache=0.5.6
# Another list or version means another directory.
digest=$( (cat "$here/requirements.txt"; echo "lmcache $lmcache") | sha256sum | cut -c1-16)
environment=$cache/lmcache-$digest

if [ ! -d "$environment" ]; then
  mkdir -p "$cache"
  partial=$(mktemp -d "$environment.partial.XXXXXX")
  trap 'rm -rf "$partial"' EXIT
  ${PYTHON:-python3} -m venv "$partial"
  "$partial/bin/python" -m pip install --quiet -r "$here/requirements.txt" >&2
  "$partial/bin/python" -m pip install --quiet --no-deps "lmcache==$lmcache" >&2
  # Under its final name it is complete; only bin/python works there, which is all that is used.
  mv -T "$partial" "$environment" 2>/dev/null || [ -d "$environment" ]
fi
echo "$environment/bin/python"
