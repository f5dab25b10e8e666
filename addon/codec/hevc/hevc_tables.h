// The numbers of the HEVC standard (Rec. ITU-T H.265) that our streams need: how the arithmetic coder's states move, where
// the contexts of a P picture start, and the diagonal scan. Written down from the standard's tables, not from a codec's source.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvreel {

// A state is pStateIdx << 1 | valMps. State kHevcNoState codes nothing: its LPS is empty, its MPS leaves everything as it is.
constexpr size_t kHevcStates = 128;

struct HevcStateTables {
  uint8_t range_lps[kHevcStates][4];  // by bits 7..6 of the range (rangeTabLps)
  uint8_t after_mps[kHevcStates];     // transIdxMps
  uint8_t after_lps[kHevcStates];     // transIdxLps, valMps toggled at pStateIdx 0
};
extern const HevcStateTables kHevcStateTables;

// Contexts of a P picture, numbered in one row. Names as in the standard.
enum HevcContext : uint8_t {
  kCtxSplitCu = 0,                           // the one of depth 0 without deeper neighbours
  kCtxTransquantBypass = 1,
  kCtxSkip = 2,                              // 3
  kCtxPredMode = 5,
  kCtxPartMode = 6,                          // the first bin
  kCtxMerge = 7,
  kCtxCbfLuma = 8,                           // of depth 1
  kCtxCbfChroma = 9,                         // 2: depth 0, depth 1
  kCtxLastX = 11,                            // 18
  kCtxLastY = kCtxLastX + 18,                // 18
  kCtxSubBlock = kCtxLastY + 18,             // 4: luma 2, chroma 2
  kCtxSignificant = kCtxSubBlock + 4,        // 42: luma 27, chroma 15
  kCtxGreater1 = kCtxSignificant + 42,       // 24: luma 16, chroma 8
  kCtxGreater2 = kCtxGreater1 + 24,          // 6: luma 4, chroma 2
  kHevcContexts = kCtxGreater2 + 6,
};

// States of all contexts at the start of a P slice with SliceQpY 26.
extern const uint8_t* const kHevcInitialStates;

// State of one context from its initValue, at SliceQpY 26 (9.3.2.2).
constexpr uint8_t hevc_initial_state(int init_value) noexcept {
  const int slope = (init_value >> 4) * 5 - 45;
  const int offset = ((init_value & 15) << 3) - 16;
  int state = ((slope * 26) >> 4) + offset;
  state = state < 1 ? 1 : state > 126 ? 126 : state;
  return uint8_t(state <= 63 ? (63 - state) << 1 : (state - 64) << 1 | 1);
}

struct HevcPoint {
  uint8_t x;
  uint8_t y;
};

// Up-right diagonal scan (6.5.3), reversed as it is coded: entry 0 is the lower right corner.
struct HevcScan {
  HevcPoint of4[16];
  HevcPoint of8[64];
};
extern const HevcScan kHevcScan;

// The three residuals of a leaf.
struct HevcResidual {
  uint8_t log2_size;
  uint8_t chroma;        // 1 for Cb and Cr
  uint16_t sub_blocks;   // of 16 values each
  uint16_t first_value;  // in the leaf
  const HevcPoint* sub_block_scan;
};
extern const HevcResidual kHevcResiduals[3];

// sigCtx inside a sub-block by its coded neighbours (bit 0 right, bit 1 below), in order of coding (9.3.4.2.5).
extern const uint8_t kHevcSignificance[4][16];

// The context it is added to. A leaf has only 32x32 luma and 16x16 chroma residuals, so the branches for 4x4 and 8x8 are absent.
constexpr uint8_t hevc_significance_context(bool chroma, bool is_first_in_scan) noexcept {
  return uint8_t(kCtxSignificant + (chroma ? 27 + 12 : is_first_in_scan ? 21 : 24));
}

// last_sig_coeff_x and _y (9.3.3.1 and 9.3.4.2.3): prefix of each coordinate, and what its suffix says.
constexpr uint8_t hevc_last_prefix(unsigned v) noexcept {
  constexpr uint8_t prefix[32] = {0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 8, 8, 8, 8, 8, 8, 8, 8, 9, 9, 9, 9, 9, 9, 9, 9};
  return prefix[v];
}
constexpr unsigned hevc_last_suffix_bits(unsigned prefix) noexcept { return prefix > 3 ? (prefix >> 1) - 1 : 0; }
constexpr unsigned hevc_last_base(unsigned prefix) noexcept { return prefix > 3 ? (2 + (prefix & 1)) << ((prefix >> 1) - 1) : prefix; }
constexpr unsigned hevc_last_context(bool chroma, unsigned bin) noexcept { return chroma ? 15 + (bin >> 2) : 10 + (bin >> 1); }

}  // namespace kvreel
