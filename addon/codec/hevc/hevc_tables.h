// The numbers of the HEVC standard (Rec. ITU-T H.265) that our streams need: how the arithmetic coder's states move, where
// the contexts of a P picture start, and the diagonal scan. Written down from the standard's tables, not from a codec's source.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvreel {

// Table 9-46, rangeTabLps: by pStateIdx and bits 7..6 of the range.
constexpr uint8_t kHevcRangeLps[64][4] = {
    {128, 176, 208, 240}, {128, 167, 197, 227}, {128, 158, 187, 216}, {123, 150, 178, 205}, {116, 142, 169, 195}, {111, 135, 160, 185},
    {105, 128, 152, 175}, {100, 122, 144, 166}, {95, 116, 137, 158},  {90, 110, 130, 150},  {85, 104, 123, 142},  {81, 99, 117, 135},
    {77, 94, 111, 128},   {73, 89, 105, 122},   {69, 85, 100, 116},   {66, 80, 95, 110},    {62, 76, 90, 104},    {59, 72, 86, 99},
    {56, 69, 81, 94},     {53, 65, 77, 89},     {51, 62, 73, 85},     {48, 59, 69, 80},     {46, 56, 66, 76},     {43, 53, 63, 72},
    {41, 50, 59, 69},     {39, 48, 56, 65},     {37, 45, 54, 62},     {35, 43, 51, 59},     {33, 41, 48, 56},     {32, 39, 46, 53},
    {30, 37, 43, 50},     {29, 35, 41, 48},     {27, 33, 39, 45},     {26, 31, 37, 43},     {24, 30, 35, 41},     {23, 28, 33, 39},
    {22, 27, 32, 37},     {21, 26, 30, 35},     {20, 24, 29, 33},     {19, 23, 27, 31},     {18, 22, 26, 30},     {17, 21, 25, 28},
    {16, 20, 23, 27},     {15, 19, 22, 25},     {14, 18, 21, 24},     {14, 17, 20, 23},     {13, 16, 19, 22},     {12, 15, 18, 21},
    {12, 14, 17, 20},     {11, 14, 16, 19},     {11, 13, 15, 18},     {10, 12, 15, 17},     {10, 12, 14, 16},     {9, 11, 13, 15},
    {9, 11, 12, 14},      {8, 10, 12, 14},      {8, 9, 11, 13},       {7, 9, 11, 12},       {7, 9, 10, 12},       {7, 8, 10, 11},
    {6, 8, 9, 11},        {6, 7, 9, 10},        {6, 7, 8, 9},         {2, 2, 2, 2},
};

// Table 9-47, transIdxLps.
constexpr uint8_t kHevcTransitionLps[64] = {
    0,  0,  1,  2,  2,  4,  4,  5,  6,  7,  8,  9,  9,  11, 11, 12, 13, 13, 15, 15, 16, 16, 18, 18, 19, 19, 21, 21, 22, 22, 23, 24,
    24, 25, 26, 26, 27, 27, 28, 29, 29, 30, 30, 30, 31, 32, 32, 33, 33, 33, 34, 34, 35, 35, 35, 36, 36, 36, 37, 37, 37, 38, 38, 63,
};

// A state is pStateIdx << 1 | valMps.
constexpr uint8_t hevc_after_mps(uint8_t state) noexcept { return uint8_t(state < 124 ? state + 2 : state); }
constexpr uint8_t hevc_after_lps(uint8_t state) noexcept {
  return uint8_t(kHevcTransitionLps[state >> 1] << 1 | ((state & 1) ^ (state < 2 ? 1 : 0)));
}

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
struct HevcStates {
  uint8_t of[kHevcContexts];
};
extern const HevcStates kHevcInitialStates;

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
