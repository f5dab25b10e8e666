{
  "variables": {
    "flags": ["-Wall", "-Wextra", "-fno-exceptions", "-fno-rtti", "-ffp-contract=off", "-fvisibility=hidden"],
    "avx2_sources": ["<!@(node scripts/codec-sources.mjs avx2)"],
    "avx2_flags": ["-mavx2", "-mbmi", "-mbmi2", "-mlzcnt"],
    "avx512_sources": ["<!@(node scripts/codec-sources.mjs avx512)"],
    "avx512_flags": ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mavx512vbmi"],
    "codec_sources": ["<!@(node scripts/codec-sources.mjs)"],
  },
  "target_defaults": {
    "cflags_cc": ["-std=c++17", "-O3", "<@(flags)"],
    "xcode_settings": {
      "CLANG_CXX_LANGUAGE_STANDARD": "c++17",
      "GCC_OPTIMIZATION_LEVEL": "3",
      "OTHER_CPLUSPLUSFLAGS": ["<@(flags)"],
      "MACOSX_DEPLOYMENT_TARGET": "11.0",
    },
    "conditions": [["target_arch=='x64'", {"defines": ["KVREEL_AVX2"]}]],
  },
  "targets": [
    # Targets of their own, so that only these files are compiled for newer processors; they run only where the processor has it.
    {
      "target_name": "codec_avx2",
      "type": "static_library",
      "sources": [],
      "conditions": [
        ["target_arch=='x64'", {
          "sources": ["<@(avx2_sources)"],
          "cflags_cc": ["<@(avx2_flags)"],
          "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["<@(flags)", "<@(avx2_flags)"]},
        }, {"type": "none"}],
      ],
    },
    {
      "target_name": "codec_avx512",
      "type": "static_library",
      "sources": [],
      "conditions": [
        ["target_arch=='x64'", {
          "sources": ["<@(avx512_sources)"],
          "cflags_cc": ["<@(avx2_flags)", "<@(avx512_flags)"],
          "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["<@(flags)", "<@(avx2_flags)", "<@(avx512_flags)"]},
        }, {"type": "none"}],
      ],
    },
    {
      "target_name": "kvreel",
      "dependencies": ["codec_avx2", "codec_avx512"],
      "sources": [
        "<@(codec_sources)",
        "addon/binding/addon.cc",
        "addon/binding/arguments.cc",
        "addon/binding/entry_reader.cc",
        "addon/binding/errors.cc",
        "addon/binding/mapped_file.cc",
        "addon/binding/worker_pool.cc",
        "addon/file/entry_read.cc",
        "addon/file/mapped_file.cc",
        "addon/net/receive_threshold.cc",
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NAPI_DISABLE_CPP_EXCEPTIONS"],
    },
  ],
}
