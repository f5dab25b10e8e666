#include "hevc_headers.h"

#include <cstring>

#include "hevc_cabac_encoder.h"

namespace kvreel {
namespace {

enum NalType : uint8_t { kTrailR = 1, kIdrWithLeading = 19, kVps = 32, kSps = 33, kPps = 34 };

constexpr uint32_t kLevel = 186;  // 6.2
constexpr uint32_t kNalHeaderBytes = 6;

class BitWriter {
 public:
  explicit BitWriter(uint8_t* out) noexcept : out_(out) {}

  void put(uint32_t value, int bits) noexcept {
    while (bits-- > 0) {
      byte_ = byte_ << 1 | (value >> bits & 1);
      if (++filled_ == 8) {
        *out_++ = uint8_t(byte_);
        byte_ = 0;
        filled_ = 0;
      }
    }
  }

  // ue(v), and se(v) of 0.
  void golomb(uint32_t value) noexcept {
    const int bits = 31 - __builtin_clz(value + 1);
    put(0, bits);
    put(value + 1, bits + 1);
  }

  // A stop bit and zeros up to a byte: rbsp_trailing_bits() and byte_alignment() alike. Returns the end.
  uint8_t* align() noexcept {
    put(1, 1);
    while (filled_ != 0) put(0, 1);
    return out_;
  }

 private:
  uint8_t* out_;
  uint32_t byte_ = 0;
  int filled_ = 0;
};

uint8_t* start_nal(NalType type, uint8_t* out) noexcept {
  const uint8_t header[kNalHeaderBytes] = {0, 0, 0, 1, uint8_t(type << 1), 1};
  std::memcpy(out, header, sizeof header);
  return out + sizeof header;
}

void put_profile_tier_level(BitWriter& bits) noexcept {
  bits.put(1, 8);             // profile space 0, tier 0, general_profile_idc 1: Main
  bits.put(0x60000000u, 32);  // compatible with Main and Main 10
  bits.put(0x9, 4);           // progressive, not interlaced, not packed, frames only
  bits.put(0, 22);            // 43 reserved bits and general_inbld_flag
  bits.put(0, 22);
  bits.put(kLevel, 8);
}

// What a decoder must hold: one picture besides the current one, nothing reordered.
void put_ordering(BitWriter& bits) noexcept {
  bits.put(1, 1);
  bits.golomb(1);
  bits.golomb(0);
  bits.golomb(0);
}

uint8_t* write_vps(uint8_t* out) noexcept {
  BitWriter bits(out);
  bits.put(0, 4);  // id
  bits.put(3, 2);  // base layer internal, available
  bits.put(0, 6);  // one layer
  bits.put(0, 3);  // one sub-layer
  bits.put(1, 1);  // temporal id nesting
  bits.put(0xffff, 16);
  put_profile_tier_level(bits);
  put_ordering(bits);
  bits.put(0, 6);  // max layer id
  bits.golomb(0);  // one layer set
  bits.put(0, 1);  // no timing
  bits.put(0, 1);  // no extension
  return bits.align();
}

uint8_t* write_sps(HevcShape shape, uint8_t* out) noexcept {
  BitWriter bits(out);
  bits.put(0, 4);  // VPS id
  bits.put(0, 3);  // one sub-layer
  bits.put(1, 1);  // temporal id nesting
  put_profile_tier_level(bits);
  bits.golomb(0);  // id
  bits.golomb(1);  // 4:2:0
  bits.golomb(shape.width);
  bits.golomb(shape.height);
  bits.put(0, 1);  // no conformance window
  bits.golomb(0);  // 8 bit luma
  bits.golomb(0);  // and chroma
  bits.golomb(4);  // 8 bit picture order count
  put_ordering(bits);
  bits.golomb(0);  // smallest coding block 8
  bits.golomb(3);  // coding tree block 64
  bits.golomb(0);  // smallest transform block 4
  bits.golomb(3);  // largest 32
  bits.golomb(0);  // transform hierarchy depth, inter
  bits.golomb(0);  // and intra
  bits.put(0, 4);  // no scaling lists, asymmetric partitions, sample adaptive offset, PCM
  bits.golomb(0);  // no short-term reference picture sets here
  bits.put(0, 5);  // no long-term ones, temporal motion, strong intra smoothing, VUI, extension
  return bits.align();
}

uint8_t* write_pps(uint8_t* out) noexcept {
  BitWriter bits(out);
  bits.golomb(0);  // id
  bits.golomb(0);  // SPS id
  bits.put(0, 1);  // no dependent slices
  bits.put(1, 1);  // pic_output_flag is present: it hides the flat picture
  bits.put(0, 3);  // no extra slice header bits
  bits.put(0, 1);  // no sign data hiding
  bits.put(0, 1);  // no cabac_init_flag
  bits.golomb(0);  // one reference in list 0
  bits.golomb(0);  // and in list 1
  bits.golomb(0);  // QP 26
  bits.put(0, 3);  // no constrained intra, transform skip, QP deltas
  bits.golomb(0);  // chroma QP offsets
  bits.golomb(0);
  bits.put(0, 1);  // none in slices
  bits.put(0, 2);  // no weighted prediction
  bits.put(1, 1);  // transquant bypass enabled
  bits.put(0, 3);  // no tiles, entropy coding sync, loop filter across slices
  bits.put(1, 1);  // deblocking control present:
  bits.put(0, 1);  // no override,
  bits.put(1, 1);  // disabled
  bits.put(0, 2);  // no scaling lists, list modification
  bits.golomb(0);  // parallel merge level
  bits.put(0, 2);  // no slice header extension, extension
  return bits.align();
}

// One I slice in which every sample is predicted from neighbours that do not exist, which makes it 128.
uint8_t* write_flat_picture(HevcShape shape, uint8_t* out) noexcept {
  BitWriter bits(out);
  bits.put(1, 1);  // first slice segment
  bits.put(0, 1);  // no_output_of_prior_pics_flag
  bits.golomb(0);  // PPS id
  bits.golomb(2);  // I
  bits.put(0, 1);  // not output
  bits.golomb(0);  // QP delta
  CabacEncoder cabac(bits.align());
  // initType 0 of split_cu_flag, cu_transquant_bypass_flag, prev_intra_luma_pred_flag, intra_chroma_pred_mode, cbf_cb at depth 0, cbf_luma at depth 1
  uint8_t split = hevc_initial_state(139), lossless = hevc_initial_state(154), predicted = hevc_initial_state(184);
  uint8_t chroma_mode = hevc_initial_state(63), cbf_chroma = hevc_initial_state(94), cbf_luma = hevc_initial_state(111);
  const unsigned blocks = (shape.width / 64u) * (shape.height / 64u);
  for (unsigned block = 1; block <= blocks; block++) {
    cabac.code(split, 0);
    cabac.code(lossless, 1);
    cabac.code(predicted, 1);
    cabac.bypass(2, 2);  // mpm_idx 1: DC, as the neighbours are DC or absent
    cabac.code(chroma_mode, 0);
    cabac.code(cbf_chroma, 0);
    cabac.code(cbf_chroma, 0);
    for (int leaf = 0; leaf < 4; leaf++) cabac.code(cbf_luma, 0);
    cabac.terminate(block == blocks);
  }
  return cabac.finish();
}

}  // namespace

size_t hevc_write_prefix(HevcShape shape, uint8_t out[kHevcPrefixBound]) noexcept {
  uint8_t* end = out;
  const auto finish_nal = [out, &end](uint8_t* payload, uint8_t* payload_end) noexcept {
    end = payload + hevc_prevent_emulation(payload, size_t(payload_end - payload), size_t(out + kHevcPrefixBound - payload));
  };
  uint8_t* payload = start_nal(kVps, end);
  finish_nal(payload, write_vps(payload));
  payload = start_nal(kSps, end);
  finish_nal(payload, write_sps(shape, payload));
  payload = start_nal(kPps, end);
  finish_nal(payload, write_pps(payload));
  payload = start_nal(kIdrWithLeading, end);
  finish_nal(payload, write_flat_picture(shape, payload));
  return size_t(end - out);
}

size_t hevc_write_slice_header(uint32_t number, uint8_t out[kHevcSliceHeaderBound]) noexcept {
  BitWriter bits(start_nal(kTrailR, out));
  bits.put(1, 1);             // first slice segment
  bits.golomb(0);             // PPS id
  bits.golomb(1);             // P
  bits.put(1, 1);             // output
  bits.put(number & 255, 8);  // picture order count
  bits.put(0, 1);             // its reference picture set is here, not in the SPS:
  bits.golomb(1);             // one earlier picture,
  bits.golomb(0);             // no later one,
  bits.golomb(number - 1);    // the flat one
  bits.put(1, 1);             // used
  bits.put(0, 1);             // as many references as the PPS says
  bits.golomb(4);             // one merge candidate
  bits.golomb(0);             // QP delta
  return size_t(bits.align() - out);
}

size_t hevc_prevent_emulation(uint8_t* payload, size_t size, size_t room) noexcept {
  // Zeros are rare in coded data: find them with memchr, count first, move only if there is something to insert.
  size_t inserted = 0;
  size_t first = 0;
  for (size_t at = 0; at + 2 < size;) {
    const void* zero = std::memchr(payload + at, 0, size - 2 - at);
    if (zero == nullptr) break;
    at = size_t(static_cast<const uint8_t*>(zero) - payload);
    if (payload[at + 1] != 0 || payload[at + 2] > 3) {
      at++;
      continue;
    }
    at += 2;  // a 3 goes in before payload[at]; the zeros before it count no more
    if (inserted++ == 0) first = at;
  }
  if (size + inserted > room) return 0;
  if (inserted == 0) return size;
  std::memmove(payload + first + inserted, payload + first, size - first);
  const uint8_t* from = payload + first + inserted;
  const uint8_t* const end = payload + size + inserted;
  uint8_t* to = payload + first;
  *to++ = 3;
  int zeros = 0;
  while (from != end) {
    if (zeros == 2 && *from <= 3) {
      *to++ = 3;
      zeros = 0;
    }
    zeros = *from == 0 ? zeros + 1 : 0;
    *to++ = *from++;
  }
  return size + inserted;
}

}  // namespace kvreel
