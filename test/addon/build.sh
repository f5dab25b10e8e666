#!/bin/sh
# Builds the addon's tests, without Node, into a directory: build.sh OUT [plain|asan|tsan|figures]. asan: AddressSanitizer and UBSan.
# tsan: ThreadSanitizer, and of the tests only that of the worker pool, where the threads are. figures: rans_entropy, which is no test.
# Each source is compiled once, as many at a time as there are cores.
set -eu

out=$1
variant=${2:-plain}
root=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)
codec=$root/addon/codec
tests=$root/test/addon
flags="-std=c++17 -Wall -Wextra -Werror -fno-exceptions -fno-rtti -ffp-contract=off -pthread"
hevc_options=
case $variant in
  plain | figures) flags="$flags -O3" ;;
  asan) flags="$flags -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all" hevc_options=--sanitize ;;
  tsan) flags="$flags -O1 -g -fsanitize=thread" ;;
  *) echo "usage: build.sh OUT [plain|asan|tsan|figures]" >&2; exit 2 ;;
esac
x86=
case $(uname -m) in x86_64 | amd64) x86=1 flags="$flags -DKVREEL_AVX2" ;; esac
mkdir -p "$out"

# Runs the compiler once for each line of arguments that comes in. Flags are unquoted on purpose: they are a list.
compile() {
  xargs -P "$(getconf _NPROCESSORS_ONLN)" -L 1 ${CXX:-g++} $flags -I"$codec" -I"$root/addon/binding"
}

# program NAME SOURCE: the arguments that make a program of test/addon/NAME.cc.
program() {
  printf '"%s" "%s" -o "%s"\n' "$tests/$1.cc" "$2" "$out/$1"
}

if [ "$variant" = tsan ]; then
  program worker_pool_test "$root/addon/binding/worker_pool.cc" | compile
  exit
fi

objects=$out/codec.objects
rm -rf "$objects"
mkdir "$objects"
for source in "$codec"/*.cc "$codec"/hevc/*.cc; do
  vector=
  case $source in
    *_avx2.cc) vector="-mavx2 -mbmi -mbmi2 -mlzcnt" ;;
    *_avx512.cc) vector="-mavx512f -mavx512vl -mavx512bw -mavx512dq -mavx512vbmi -mavx2 -mbmi -mbmi2 -mlzcnt" ;;
  esac
  if [ -z "$vector" ] || [ -n "$x86" ]; then
    printf '%s -c "%s" -o "%s"\n' "$vector" "$source" "$objects/$(basename "$source" .cc).o"
  fi
done | compile
ar rcs "$objects/codec.a" "$objects"/*.o

if [ "$variant" = figures ]; then
  program rans_entropy "$objects/codec.a" | compile
  exit
fi
{
  for name in layout_test checksum_test float16_test rotary_test rans_test loops_test exact_test quantized_test chunk_fuzz; do
    program "$name" "$objects/codec.a"
  done
  program worker_pool_test "$root/addon/binding/worker_pool.cc"
} | compile
sh "$tests/hevc/build.sh" "$out" --library "$objects/codec.a" $hevc_options
