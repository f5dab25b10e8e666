// The reference reader, the mirror image of hevc_writer.cc. What our writer never writes ends the picture as corrupt.
#include <cstring>

#include "hevc_cabac_decoder.h"
#include "hevc_picture.h"

namespace kvreel {
namespace {

class PictureReader {
 public:
  explicit PictureReader(const HevcPictureData& picture) noexcept : cabac_(picture.data, picture.size) {
    for (int i = 0; i < kHevcContexts; i++) state_[i] = kHevcInitialStates.of[i];
  }

  // Decodes one block. False if it is not one of ours.
  bool block(int8_t* values, unsigned skipped_neighbours, bool* skipped) noexcept {
    std::memset(values, 0, kHevcBlockValues);
    if (code(kCtxSplitCu) != 0 || code(kCtxTransquantBypass) != 1) return false;
    *skipped = code(kCtxSkip + skipped_neighbours) != 0;
    if (*skipped) return true;
    if (code(kCtxPredMode) != 0 || code(kCtxPartMode) != 1 || code(kCtxMerge) != 1) return false;
    bool any[3] = {true, false, false};
    any[1] = code(kCtxCbfChroma) != 0;
    any[2] = code(kCtxCbfChroma) != 0;
    for (int leaf = 0; leaf < 4; leaf++) {
      bool coded[3];
      coded[1] = any[1] && code(kCtxCbfChroma + 1) != 0;
      coded[2] = any[2] && code(kCtxCbfChroma + 1) != 0;
      coded[0] = code(kCtxCbfLuma) != 0;
      for (int plane = 0; plane < 3; plane++) {
        const HevcResidual& residual = kHevcResiduals[plane];
        if (coded[plane] && !residual_coding(residual, values + leaf * kHevcLeafValues + residual.first_value)) return false;
      }
    }
    return true;
  }

  unsigned end_of_slice() noexcept { return cabac_.terminate(); }
  bool ends_here() const noexcept { return cabac_.ends_here(); }

 private:
  unsigned code(unsigned context) noexcept { return cabac_.decode(state_[context]); }

  bool residual_coding(const HevcResidual& residual, int8_t* values) noexcept {
    const bool chroma = residual.chroma != 0;
    const int first = first_value(residual);
    const int first_sub_block = first / 16;
    uint8_t coded[9][9] = {};
    bool had_greater1 = false;
    const int count = residual.sub_blocks;
    for (int i = first_sub_block; i < count; i++) {
      const HevcPoint at = residual.sub_block_scan[i];
      int8_t* const v = values + i * 16;
      const unsigned neighbours = coded[at.y][at.x + 1] | unsigned(coded[at.y + 1][at.x]) << 1;
      const bool is_last_in_order = i == count - 1;
      const bool inferred = i == first_sub_block || is_last_in_order;
      const bool is_coded = inferred || code(kCtxSubBlock + 2u * residual.chroma + (neighbours != 0)) != 0;
      coded[at.y][at.x] = is_coded;
      if (!is_coded) continue;
      const unsigned base = hevc_significance_context(chroma, is_last_in_order);
      bool can_infer = !inferred;
      int where[16];
      int nonzero = 0;
      int n = 0;
      if (i == first_sub_block) {
        n = first % 16;
        where[nonzero++] = n++;
      }
      for (; n < 16; n++) {
        const bool is_dc = is_last_in_order && n == 15;
        const unsigned context = is_dc ? kCtxSignificant + (chroma ? 27u : 0u) : base + kHevcSignificance[neighbours][n];
        const bool significant = (n == 15 && can_infer) || code(context) != 0;
        if (!significant) continue;
        where[nonzero++] = n;
        can_infer = false;
      }
      if (!levels(v, where, nonzero, chroma, is_last_in_order, i == first_sub_block, &had_greater1)) return false;
      if (cabac_.is_overrun()) return false;
    }
    return true;
  }

  // last_sig_coeff_x and _y, as the number of the first value in order of coding that is not zero.
  int first_value(const HevcResidual& residual) noexcept {
    const unsigned longest = 2u * residual.log2_size - 1;
    unsigned position[2];
    for (int axis = 0; axis < 2; axis++) {
      const unsigned base = axis == 0 ? kCtxLastX : kCtxLastY;
      unsigned prefix = 0;
      while (prefix < longest && code(base + hevc_last_context(residual.chroma != 0, prefix)) != 0) prefix++;
      position[axis] = prefix;
    }
    for (unsigned& p : position) p = hevc_last_base(p) + cabac_.bypass(int(hevc_last_suffix_bits(p)));
    int sub_block = 0;
    while (residual.sub_block_scan[sub_block].x != position[0] / 4 || residual.sub_block_scan[sub_block].y != position[1] / 4) sub_block++;
    int inside = 0;
    while (kHevcScan.of4[inside].x != position[0] % 4 || kHevcScan.of4[inside].y != position[1] % 4) inside++;
    return sub_block * 16 + inside;
  }

  bool levels(int8_t* v, const int* where, int count, bool chroma, bool is_last_in_order, bool is_first, bool* had_greater1) noexcept {
    if (count == 0) return true;
    const unsigned set = (is_last_in_order || chroma ? 0u : 2u) + (!is_first && *had_greater1);
    const int flags = count < 8 ? count : 8;
    unsigned magnitude[16];
    int first_greater1 = -1;
    unsigned context = 1;
    for (int i = 0; i < flags; i++) {
      const bool greater1 = code(kCtxGreater1 + (chroma ? 16u : 0u) + set * 4 + context) != 0;
      magnitude[i] = 1u + greater1;
      if (greater1) {
        if (first_greater1 < 0) first_greater1 = i;
        context = 0;
      } else if (context > 0 && context < 3) {
        context++;
      }
    }
    *had_greater1 = first_greater1 >= 0;
    if (first_greater1 >= 0) magnitude[first_greater1] += code(kCtxGreater2 + (chroma ? 4u : 0u) + set);
    const uint32_t signs = cabac_.bypass(count);
    unsigned rice = 0;
    for (int i = 0; i < count; i++) {
      const unsigned base = i >= 8 ? 1 : i == first_greater1 ? 3 : 2;
      if (i >= 8 || magnitude[i] == base) {
        magnitude[i] = base + remaining(rice);
        if (rice < 4 && magnitude[i] > 3u << rice) rice++;
      }
      const unsigned negative = signs >> (count - 1 - i) & 1;
      if (magnitude[i] > 127 + negative) return false;
      v[where[i]] = int8_t(negative ? -int(magnitude[i]) : int(magnitude[i]));
    }
    return true;
  }

  // A prefix longer than any of ours gives a value beyond all of ours, too.
  unsigned remaining(unsigned rice) noexcept {
    unsigned prefix = 0;
    while (prefix < 12 && cabac_.bypass() != 0) prefix++;
    if (prefix < 4) return (prefix << rice) + cabac_.bypass(int(rice));
    return (((1u << (prefix - 3)) + 2) << rice) + cabac_.bypass(int(prefix - 3 + rice));
  }

  CabacDecoder cabac_;
  uint8_t state_[kHevcContexts];
};

}  // namespace

bool hevc_read_picture(HevcShape shape, const HevcPictureData& picture) noexcept {
  const size_t columns = shape.width / 64u;
  const size_t blocks = hevc_picture_blocks(shape);
  uint64_t skipped_above = 0;
  PictureReader reader(picture);
  for (size_t block = 0; block < blocks; block++) {
    const size_t column = block % columns;
    const unsigned left = column > 0 ? skipped_above >> (column - 1) & 1 : 0;
    const unsigned above = skipped_above >> column & 1;
    bool skipped = false;
    if (!reader.block(picture.values + block * kHevcBlockValues, left + above, &skipped)) return false;
    skipped_above = (skipped_above & ~(uint64_t{1} << column)) | uint64_t{skipped} << column;
    if (reader.end_of_slice() != (block + 1 == blocks)) return false;
  }
  return reader.ends_here();
}

}  // namespace kvreel
