#!/bin/sh
# Builds the addon's tests, without Node, into a directory: build.sh OUT [plain|asan|tsan|figures]. asan: AddressSanitizer and UBSan.
# tsan: ThreadSanitizer, and of the tests only that of the worker pool, where the threads are. figures: rans_entropy, which is no test.
# Each source is compiled once.
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

# link NAME OBJECT...: a program from test/addon/NAME.cc. Flags are unquoted on purpose here and below: they are lists.
link() {
  name=$1
  shift
  ${CXX:-g++} $flags -I"$codec" -I"$root/addon/binding" "$tests/$name.cc" "$@" -o "$out/$name"
}

if [ "$variant" = tsan ]; then
  link worker_pool_test "$root/addon/binding/worker_pool.cc"
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
    ${CXX:-g++} $flags $vector -c "$source" -o "$objects/$(basename "$source" .cc).o"
  fi
done

if [ "$variant" = figures ]; then
  link rans_entropy "$objects"/*.o
  exit
fi
for name in layout_test checksum_test float16_test rotary_test rans_test loops_test exact_test quantized_test chunk_fuzz; do
  link "$name" "$objects"/*.o
done
link worker_pool_test "$root/addon/binding/worker_pool.cc"
sh "$tests/hevc/build.sh" "$out" --objects "$objects" $hevc_options
