#!/bin/sh
# Builds the addon's tests, without Node: build.sh OUT [asan]. Each test is one compiler command.
set -eu

out=$1
variant=${2:-plain}
root=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)
codec=$root/addon/codec
tests=$root/test/addon
flags="-std=c++17 -O3 -Wall -Wextra -Werror -fno-exceptions -fno-rtti -ffp-contract=off -I$codec"
case $variant in
  plain) ;;
  asan) flags="$flags -g -fsanitize=address,undefined -fno-sanitize-recover=all" ;;
  *) echo "usage: build.sh OUT [asan]" >&2; exit 2 ;;
esac
mkdir -p "$out"

# build NAME SOURCE...: test/addon/NAME.cc with the codec sources it needs.
build() {
  name=$1
  shift
  sources=
  for source in "$@"; do sources="$sources $codec/$source"; done
  # Unquoted on purpose: a list of flags and a list of files.
  ${CXX:-g++} $flags -o "$out/$name" "$tests/$name.cc" $sources
}

build layout_test layout.cc
build checksum_test checksum.cc
build float16_test
build rotary_test rotary.cc checksum.cc
