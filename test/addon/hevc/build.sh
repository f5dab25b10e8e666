#!/bin/sh
# Builds the HEVC test programs into a directory: build.sh <directory> [target ...] [--sanitize]
# Targets: hevc_test hevc_fuzz (plain C++), hevc_oracle (libavcodec, libavutil, libde265), hevc_bench (libx265, libavcodec, libavutil).
# Without targets: hevc_test and hevc_fuzz. --sanitize builds with AddressSanitizer and UBSan (name ends in _sanitized).
# --library <file>: links this library of the codec instead of compiling its sources.
set -e
here=$(cd "$(dirname "$0")" && pwd)
codec=$here/../../../addon/codec
out=$1
shift
flags="-std=c++17 -O3 -Wall -Wextra -Werror -ffp-contract=off"
suffix=
targets=
ready=
while [ $# -gt 0 ]; do
  case $1 in
    --sanitize) flags="-std=c++17 -O1 -g -Wall -Wextra -Werror -ffp-contract=off -fsanitize=address,undefined -fno-sanitize-recover=all" suffix=_sanitized ;;
    --library)
      shift
      ready=$1
      ;;
    *) targets="$targets $1" ;;
  esac
  shift
done
: "${targets:=hevc_test hevc_fuzz}"
mkdir -p "$out"
x86=
case $(uname -m) in x86_64 | amd64) x86=-DKVREEL_AVX2 ;; esac
objects=$ready
if [ -z "$ready" ]; then
  objects=
  for source in "$codec"/cpu.cc "$codec"/hevc/*.cc; do
    object=$out/$(basename "$source" .cc)$suffix.o
    vector=
    case $source in *_avx2.cc)
      [ -n "$x86" ] || continue
      vector="-mavx2 -mbmi -mbmi2 -mlzcnt"
      ;;
    esac
    ${CXX:-g++} $flags -fno-exceptions -fno-rtti $x86 $vector -c "$source" -o "$object"
    objects="$objects $object"
  done
fi
for target in $targets; do
  libraries=
  case $target in
    hevc_oracle) libraries="-lavcodec -lavutil -lde265" ;;
    hevc_bench) libraries="-lx265 -lavcodec -lavutil" ;;
  esac
  ${CXX:-g++} $flags $x86 -I"$codec" "$here/$target.cc" $objects -o "$out/$target$suffix" $libraries
done
