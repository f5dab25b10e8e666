// The reference: one bin after the other, in the standard's order (7.3.8).
#include <cstdlib>

#include "hevc_cabac_encoder.h"
#include "hevc_picture.h"

namespace kvreel {
namespace {

bool all_zero(const int8_t* values, size_t count) noexcept {
  int seen = 0;
  for (size_t i = 0; i < count; i++) seen |= values[i];
  return seen == 0;
}

class PictureWriter {
 public:
  explicit PictureWriter(uint8_t* out) noexcept : cabac_(out) {
    for (int i = 0; i < kHevcContexts; i++) state_[i] = kHevcInitialStates.of[i];
  }

  ptrdiff_t bits(const uint8_t* start) const noexcept { return cabac_.bits(start); }

  // `skipped_neighbours`: how many of the blocks to the left and above are all zero.
  void block(const int8_t* values, unsigned skipped_neighbours) noexcept {
    const bool skipped = all_zero(values, kHevcBlockValues);
    code(kCtxSplitCu, 0);
    code(kCtxTransquantBypass, 1);
    code(kCtxSkip + skipped_neighbours, skipped);
    if (skipped) return;
    code(kCtxPredMode, 0);
    code(kCtxPartMode, 1);
    code(kCtxMerge, 1);
    bool coded[3][4];
    bool any[3] = {false, false, false};
    for (int plane = 0; plane < 3; plane++) {
      for (int leaf = 0; leaf < 4; leaf++) {
        const HevcResidual& residual = kHevcResiduals[plane];
        coded[plane][leaf] = !all_zero(values + leaf * kHevcLeafValues + residual.first_value, residual.sub_blocks * 16u);
        any[plane] |= coded[plane][leaf];
      }
    }
    code(kCtxCbfChroma, any[1]);
    code(kCtxCbfChroma, any[2]);
    for (int leaf = 0; leaf < 4; leaf++) {
      if (any[1]) code(kCtxCbfChroma + 1, coded[1][leaf]);
      if (any[2]) code(kCtxCbfChroma + 1, coded[2][leaf]);
      code(kCtxCbfLuma, coded[0][leaf]);
      for (int plane = 0; plane < 3; plane++) {
        if (coded[plane][leaf]) residual_coding(kHevcResiduals[plane], values + leaf * kHevcLeafValues + kHevcResiduals[plane].first_value);
      }
    }
  }

  void end_of_slice(bool last) noexcept { cabac_.terminate(last); }
  uint8_t* finish() noexcept { return cabac_.finish(); }

 private:
  void code(unsigned context, unsigned bin) noexcept { cabac_.code(state_[context], bin); }

  void residual_coding(const HevcResidual& residual, const int8_t* values) noexcept {
    int first = 0;
    while (values[first] == 0) first++;
    const int first_sub_block = first / 16;
    const HevcPoint corner = residual.sub_block_scan[first_sub_block];
    const HevcPoint inside = kHevcScan.of4[first % 16];
    last_position(residual, corner.x * 4u + inside.x, corner.y * 4u + inside.y);
    uint8_t coded[9][9] = {};  // by column and row of the sub-block; beyond the edge nothing is coded
    bool had_greater1 = false;
    const int count = residual.sub_blocks;
    for (int i = first_sub_block; i < count; i++) {
      const HevcPoint at = residual.sub_block_scan[i];
      const int8_t* const v = values + i * 16;
      const unsigned neighbours = coded[at.y][at.x + 1] | unsigned(coded[at.y + 1][at.x]) << 1;
      const bool is_last_in_order = i == count - 1;
      bool inferred = i == first_sub_block || is_last_in_order;
      const bool is_coded = inferred || !all_zero(v, 16);
      coded[at.y][at.x] = is_coded;
      if (!inferred) code(kCtxSubBlock + 2u * residual.chroma + (neighbours != 0), is_coded);
      if (!is_coded) continue;
      const unsigned base = hevc_significance_context(residual.chroma != 0, is_last_in_order);
      // The flag of the last sample is not sent if it must be 1, which a coded sub-block with no other one says.
      bool can_infer = !inferred;
      for (int n = i == first_sub_block ? first % 16 + 1 : 0; n < 16; n++) {
        const bool is_dc = is_last_in_order && n == 15;
        if (n == 15 && can_infer) break;
        const unsigned context = is_dc ? kCtxSignificant + (residual.chroma ? 27u : 0u) : base + kHevcSignificance[neighbours][n];
        code(context, v[n] != 0);
        if (v[n] != 0) can_infer = false;
      }
      levels(v, residual.chroma != 0, is_last_in_order, i == first_sub_block, &had_greater1);
    }
  }

  void last_position(const HevcResidual& residual, unsigned x, unsigned y) noexcept {
    const unsigned prefix[2] = {hevc_last_prefix(x), hevc_last_prefix(y)};
    const unsigned longest = 2u * residual.log2_size - 1;
    for (int axis = 0; axis < 2; axis++) {
      const unsigned base = axis == 0 ? kCtxLastX : kCtxLastY;
      for (unsigned bin = 0; bin < prefix[axis]; bin++) code(base + hevc_last_context(residual.chroma != 0, bin), 1);
      if (prefix[axis] < longest) code(base + hevc_last_context(residual.chroma != 0, prefix[axis]), 0);
    }
    cabac_.bypass(x - hevc_last_base(prefix[0]), int(hevc_last_suffix_bits(prefix[0])));
    cabac_.bypass(y - hevc_last_base(prefix[1]), int(hevc_last_suffix_bits(prefix[1])));
  }

  // The flags greater1 and greater2, the signs and what remains of the magnitudes of one sub-block.
  void levels(const int8_t* v, bool chroma, bool is_last_in_order, bool is_first, bool* had_greater1) noexcept {
    unsigned magnitude[16];
    uint32_t signs = 0;
    int count = 0;
    for (int n = 0; n < 16; n++) {
      if (v[n] == 0) continue;
      magnitude[count++] = unsigned(std::abs(int{v[n]}));
      signs = signs << 1 | (v[n] < 0);
    }
    if (count == 0) return;
    const unsigned set = (is_last_in_order || chroma ? 0u : 2u) + (!is_first && *had_greater1);
    const int flags = count < 8 ? count : 8;
    int first_greater1 = -1;
    unsigned context = 1;
    for (int i = 0; i < flags; i++) {
      const bool greater1 = magnitude[i] > 1;
      code(kCtxGreater1 + (chroma ? 16u : 0u) + set * 4 + context, greater1);
      if (greater1) {
        if (first_greater1 < 0) first_greater1 = i;
        context = 0;
      } else if (context > 0 && context < 3) {
        context++;
      }
    }
    *had_greater1 = first_greater1 >= 0;
    if (first_greater1 >= 0) code(kCtxGreater2 + (chroma ? 4u : 0u) + set, magnitude[first_greater1] > 2);
    cabac_.bypass(signs, count);
    unsigned rice = 0;
    for (int i = 0; i < count; i++) {
      const unsigned base = i >= 8 ? 1 : i == first_greater1 ? 3 : 2;
      if (magnitude[i] < base) continue;
      remaining(magnitude[i] - base, rice);
      if (rice < 4 && magnitude[i] > 3u << rice) rice++;
    }
  }

  // coeff_abs_level_remaining (9.3.3.11): four ones at most and a Rice code, or Exp-Golomb of the next order behind four ones.
  void remaining(unsigned value, unsigned rice) noexcept {
    const unsigned prefix = value >> rice;
    if (prefix < 4) {
      cabac_.bypass((1u << prefix) - 1, int(prefix));
      cabac_.bypass(value & ((1u << rice) - 1), int(rice) + 1);
      return;
    }
    value -= 4u << rice;
    unsigned order = rice + 1;
    unsigned ones = 4;
    for (; value >= 1u << order; order++, ones++) value -= 1u << order;
    cabac_.bypass((1u << ones) - 1, int(ones));
    cabac_.bypass(value, int(order) + 1);
  }

  CabacEncoder cabac_;
  uint8_t state_[kHevcContexts];
};

}  // namespace

void hevc_write_picture(HevcShape shape, HevcPictureValues* picture) noexcept {
  const size_t columns = shape.width / 64u;
  const size_t blocks = hevc_picture_blocks(shape);
  uint64_t skipped_above = 0;  // a bit a column; the row above until the column is reached, then this row
  PictureWriter writer(picture->out);
  picture->written = 0;
  for (size_t block = 0; block < blocks; block++) {
    const int8_t* const values = picture->values + block * kHevcBlockValues;
    const size_t column = block % columns;
    const unsigned left = column > 0 ? skipped_above >> (column - 1) & 1 : 0;
    const unsigned above = skipped_above >> column & 1;
    writer.block(values, left + above);
    skipped_above = (skipped_above & ~(uint64_t{1} << column)) | uint64_t{all_zero(values, kHevcBlockValues)} << column;
    writer.end_of_slice(block + 1 == blocks);
    if (writer.bits(picture->out) > hevc_picture_limit_bits(blocks)) return;
  }
  picture->written = size_t(writer.finish() - picture->out);
}

}  // namespace kvreel
