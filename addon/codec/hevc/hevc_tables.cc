#include "hevc_tables.h"

namespace kvreel {
namespace {

// Table 9-46: rangeTabLps.
constexpr uint8_t kRangeLps[64][4] = {
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

// Table 9-47: transIdxLps.
constexpr uint8_t kAfterLps[64] = {
    0,  0,  1,  2,  2,  4,  4,  5,  6,  7,  8,  9,  9,  11, 11, 12, 13, 13, 15, 15, 16, 16, 18, 18, 19, 19, 21, 21, 22, 22, 23, 24,
    24, 25, 26, 26, 27, 27, 28, 29, 29, 30, 30, 30, 31, 32, 32, 33, 33, 33, 34, 34, 35, 35, 35, 36, 36, 36, 37, 37, 37, 38, 38, 63,
};

constexpr HevcStateTables make_state_tables() noexcept {
  HevcStateTables tables = {};
  for (int state = 0; state < int(kHevcStates); state++) {
    const int index = state >> 1;
    const int mps = state & 1;
    for (int q = 0; q < 4; q++) tables.range_lps[state][q] = kRangeLps[index][q];
    tables.after_mps[state] = uint8_t((index < 62 ? index + 1 : index) << 1 | mps);
    tables.after_lps[state] = uint8_t(kAfterLps[index] << 1 | (index == 0 ? mps ^ 1 : mps));
  }
  return tables;
}

struct InitialStates {
  uint8_t of[kHevcContexts];
};

// Tables 9-5 to 9-37, the columns of initType 1 (P slices).
constexpr uint8_t kInitValues[kHevcContexts] = {
    107,                                                                                          // split_cu_flag
    154,                                                                                          // cu_transquant_bypass_flag
    197, 185, 201,                                                                                // cu_skip_flag
    149,                                                                                          // pred_mode_flag
    154,                                                                                          // part_mode
    110,                                                                                          // merge_flag
    153,                                                                                          // cbf_luma
    149, 107,                                                                                     // cbf_cb, cbf_cr
    125, 110, 94,  110, 95,  79,  125, 111, 110, 78,  110, 111, 111, 95,  94,  108, 123, 108,     // last_sig_coeff_x_prefix
    125, 110, 94,  110, 95,  79,  125, 111, 110, 78,  110, 111, 111, 95,  94,  108, 123, 108,     // last_sig_coeff_y_prefix
    121, 140, 61,  154,                                                                           // coded_sub_block_flag
    155, 154, 139, 153, 139, 123, 123, 63,  153, 166, 183, 140, 136, 153, 154, 166, 183, 140,     // sig_coeff_flag, luma
    136, 153, 154, 166, 183, 140, 136, 153, 154,                                                  //
    170, 153, 123, 123, 107, 121, 107, 121, 167, 151, 183, 140, 151, 183, 140,                    // sig_coeff_flag, chroma
    154, 196, 196, 167, 154, 152, 167, 182, 182, 134, 149, 136, 153, 121, 136, 137,               // coeff_abs_level_greater1_flag, luma
    169, 194, 166, 167, 154, 167, 137, 182,                                                       // and chroma
    107, 167, 91,  122, 107, 167,                                                                 // coeff_abs_level_greater2_flag
};

constexpr InitialStates make_initial_states() noexcept {
  InitialStates states = {};
  for (int i = 0; i < kHevcContexts; i++) states.of[i] = hevc_initial_state(kInitValues[i]);
  return states;
}
constexpr InitialStates kInitial = make_initial_states();

constexpr HevcScan make_scan() noexcept {
  HevcScan scan = {};
  for (int size = 4; size <= 8; size += 4) {
    HevcPoint* points = size == 4 ? scan.of4 : scan.of8;
    int at = size * size;
    for (int diagonal = 0; diagonal < 2 * size - 1; diagonal++) {
      for (int x = 0; x <= diagonal; x++) {
        const int y = diagonal - x;
        if (x < size && y < size) points[--at] = {uint8_t(x), uint8_t(y)};
      }
    }
  }
  return scan;
}

}  // namespace

constexpr HevcStateTables kStateTables = make_state_tables();
const HevcStateTables kHevcStateTables = kStateTables;  // constant initialisation, as all tables here
const uint8_t* const kHevcInitialStates = kInitial.of;
const HevcScan kHevcScan = make_scan();

const HevcResidual kHevcResiduals[3] = {
    {5, 0, 64, 0, kHevcScan.of8},
    {4, 1, 16, 1024, kHevcScan.of4},
    {4, 1, 16, 1280, kHevcScan.of4},
};

// Order of coding in a 4x4, as x y: 33 32 23 31 22 13 30 21 12 03 20 11 02 10 01 00.
const uint8_t kHevcSignificance[4][16] = {
    {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2},
    {0, 0, 0, 1, 0, 0, 2, 1, 0, 0, 2, 1, 0, 2, 1, 2},
    {0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 0, 1, 2, 1, 2, 2},
    {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2},
};

}  // namespace kvreel
