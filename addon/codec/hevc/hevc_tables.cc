#include "hevc_tables.h"

namespace kvreel {
namespace {

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

constexpr HevcStates make_initial_states() noexcept {
  HevcStates states = {};
  for (int i = 0; i < kHevcContexts; i++) states.of[i] = hevc_initial_state(kInitValues[i]);
  return states;
}
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

// All constant-initialised: nothing here runs at start-up.
constexpr HevcStates kInitial = make_initial_states();
const HevcStates kHevcInitialStates = kInitial;
constexpr HevcScan kScan = make_scan();
const HevcScan kHevcScan = kScan;

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
