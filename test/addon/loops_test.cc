// Every loop that has a twin for AVX2 or BMI2, held to the same results. Programs without the twins have nothing to test here.
#include "check.h"
#include "exact.h"
#include "jobs.h"
#include "quantized_group.h"
#include "rows.h"

using namespace kvreel;
using namespace kvreel_test;

#if defined(KVREEL_AVX2)
namespace {

constexpr size_t kCounts[] = {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 40, 48, 100, 256, 300};
constexpr ElementType kFloats[] = {ElementType::kBf16, ElementType::kF16, ElementType::kF32};

bool can_run() {
  if (!cpu_has_avx2()) at_case = "this processor cannot run the twins";
  return cpu_has_avx2();
}

// Patterns at random, at the edges, and in a narrow range.
std::vector<uint16_t> random_patterns(size_t count, uint32_t kind, Random* random) {
  std::vector<uint16_t> values(count);
  for (uint16_t& v : values) {
    const uint16_t bits = uint16_t(random->next());
    v = kind == 0 ? bits : kind == 1 ? uint16_t(0x3f00 | (bits & 0x80ff)) : kind == 2 ? uint16_t(bits & 1 ? 0x7fff : 0x8000) : kind == 3 ? 0xffff : uint16_t(bits & 0xff);
  }
  return values;
}

float float_at_random(uint32_t kind, Random* random) {
  const uint32_t bits = uint32_t(random->next());
  if (kind == 0) return float_of(bits);
  if (kind == 1) return float(random->normal());
  constexpr float kEdges[] = {0.0f, -0.0f, 0.5f, 1.5f, 2.5f, -0.5f, 32766.5f, 32767.5f, -32768.5f, 1e30f, -1e30f, 3.4e38f, 1e-40f, INFINITY, -INFINITY, 65504.0f, 65520.0f};
  return kEdges[bits % (sizeof kEdges / sizeof kEdges[0])];
}

template <typename T>
bool equal(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace

TEST(exact_rows, "sums, deviations and symbols of rows of any length agree") {
  if (!can_run()) return;
  Random random{41};
  for (const size_t count : kCounts) {
    for (uint32_t kind = 0; kind < 5; kind++) {
      for (const uint32_t bits : {7u, 15u}) {
        const std::vector<uint16_t> row = random_patterns(count, kind, &random);
        at_case = "count " + std::to_string(count) + " kind " + std::to_string(kind) + " bits " + std::to_string(bits);
        const ExactSums sums = exact_sum_row(row.data(), count, bits), twin = exact_sum_row_avx2(row.data(), count, bits);
        CHECK(sums.magnitude == twin.magnitude && sums.negative == twin.negative);
        const uint16_t mean = uint16_t(random.below(1u << bits));
        CHECK(exact_deviation_of_row(row.data(), count, bits, mean) == exact_deviation_of_row_avx2(row.data(), count, bits, mean));
        for (uint32_t shift = 0; shift <= (bits < 12 ? bits : 12); shift++) {
          const uint16_t middle = uint16_t(kind == 1 ? 0x3f80 & ((1u << bits) - 1) : mean);
          const ExactChannel channel{uint16_t(middle >> shift), 0, uint8_t(shift), uint8_t(random.below(2))};
          const uint16_t begin = uint16_t(random.below(kExactBins)), end = uint16_t(begin + random.below(kExactBins + 1 - begin));
          std::vector<uint8_t> symbols(count), twin_symbols(count);
          CHECK(exact_symbols_of_row(row.data(), count, channel, {begin, end}, bits, symbols.data()) ==
                exact_symbols_of_row_avx2(row.data(), count, channel, {begin, end}, bits, twin_symbols.data()));
          CHECK(symbols == twin_symbols);
        }
      }
    }
  }
}

TEST(long_rows, "sums of rows too long for one 16-bit or 32-bit counter agree with the definition") {
  if (!can_run()) return;
  const std::vector<uint16_t> row(200001, 0xffff);
  for (const auto sum : {exact_sum_row, exact_sum_row_avx2}) {
    const ExactSums sums = sum(row.data(), row.size(), 15);
    CHECK(sums.magnitude == uint64_t(0x7fff) * row.size() && sums.negative == row.size());
  }
  for (const auto deviation : {exact_deviation_of_row, exact_deviation_of_row_avx2}) CHECK(deviation(row.data(), row.size(), 15, 0) == uint64_t(0x7fff) * row.size());
  std::vector<uint8_t> symbols(row.size());
  for (const auto symbols_of : {exact_symbols_of_row, exact_symbols_of_row_avx2}) {
    CHECK(symbols_of(row.data(), row.size(), {0, 0, 0, 0}, {0, kExactBins}, 15, symbols.data()) == row.size());
  }
}

TEST(exact_restore, "rows restored from symbols and low bits agree, and so do packed low bits, which unpack to what they were") {
  if (!can_run()) return;
  Random random{42};
  for (const size_t tokens : {16u, 32u, 48u, 256u}) {
    for (const uint32_t bits : {7u, 15u}) {
      for (int round = 0; round < 20; round++) {
        // Shifts of each channel at random, or the same for all.
        const uint32_t most = bits < 12 ? bits : 12;
        std::vector<ExactChannel> channels(1 + random.below(8));
        size_t bytes = 0;
        for (ExactChannel& channel : channels) {
          const uint32_t shift = round <= int(most) ? uint32_t(round) : random.below(most + 1);
          channel = {uint16_t(random.below(1u << (bits - shift))), 0, uint8_t(shift), uint8_t(random.below(2))};
          bytes += exact_low_bytes(channel, tokens);
        }
        const size_t values = channels.size() * tokens;
        std::vector<uint8_t> symbols(values), low(bytes + 8), packed(bytes), twin_packed(bytes + 8);
        for (uint8_t& s : symbols) s = uint8_t(random.next());
        for (uint8_t& b : low) b = uint8_t(random.next());
        std::vector<uint16_t> out(values), twin(values);
        exact_restore_rows(symbols.data(), tokens, in(channels), bits, low.data(), out.data());
        exact_restore_rows_avx2(symbols.data(), tokens, in(channels), bits, low.data(), twin.data());
        at_case = "tokens " + std::to_string(tokens) + " bits " + std::to_string(bits) + " round " + std::to_string(round);
        CHECK(out == twin);
        // Packed from rows that lie apart.
        const size_t stride = tokens + random.below(3);
        std::vector<uint16_t> apart((channels.size() - 1) * stride + tokens);
        for (size_t r = 0; r < channels.size(); r++) std::memcpy(apart.data() + r * stride, out.data() + r * tokens, tokens * sizeof(uint16_t));
        CHECK(exact_pack_rows(apart.data(), stride, tokens, in(channels), packed.data()) == bytes);
        CHECK(exact_pack_rows_avx2(apart.data(), stride, tokens, in(channels), twin_packed.data()) == bytes);
        twin_packed.resize(bytes);
        low.resize(bytes);
        CHECK(packed == twin_packed && packed == low);
      }
    }
  }
}

TEST(exact_restore_avx512, "rows of any number of tokens restored by AVX-512 agree, without a value written past them") {
  if (!cpu_has_avx512()) return;
  Random random{44};
  for (const size_t tokens : kCounts) {
    for (const uint32_t bits : {7u, 15u}) {
      const uint32_t most = bits < kExactMaxShift ? bits : kExactMaxShift;
      for (uint32_t shift = 0; shift <= most; shift++) {
        std::vector<ExactChannel> channels(3);
        size_t bytes = 0;
        for (ExactChannel& channel : channels) {
          channel = {uint16_t(random.below(1u << (bits - shift))), 0, uint8_t(shift), uint8_t(random.below(2))};
          bytes += exact_low_bytes(channel, tokens);
        }
        const size_t values = channels.size() * tokens;
        std::vector<uint8_t> symbols(values), low(bytes + kExactLowPadding);
        for (uint8_t& s : symbols) s = uint8_t(random.next());
        for (uint8_t& b : low) b = uint8_t(random.next());
        std::vector<uint16_t> out(values + 1, 0x5a5a), twin(values + 1, 0x5a5a);
        exact_restore_rows(symbols.data(), tokens, in(channels), bits, low.data(), out.data());
        exact_restore_rows_avx512(symbols.data(), tokens, in(channels), bits, low.data(), twin.data());
        at_case = "tokens " + std::to_string(tokens) + " bits " + std::to_string(bits) + " shift " + std::to_string(shift);
        CHECK(out == twin);
      }
    }
  }
}

TEST(elements, "elements become floats, and floats elements, alike: all bit patterns, NaNs too") {
  if (!can_run()) return;
  Random random{43};
  for (const ElementType type : kFloats) {
    for (const size_t count : {size_t(65536), size_t(0), size_t(1), size_t(7), size_t(15), size_t(16), size_t(17), size_t(31)}) {
      std::vector<uint16_t> upper(count), lower(count), twin_upper(count), twin_lower(count);
      for (size_t i = 0; i < count; i++) upper[i] = uint16_t(i), lower[i] = uint16_t(random.next());
      std::vector<float> floats(count), twin(count);
      elements_to_floats(upper.data(), lower.data(), count, type, floats.data());
      elements_to_floats_avx2(upper.data(), lower.data(), count, type, twin.data());
      at_case = "type " + std::to_string(int(type)) + " count " + std::to_string(count);
      CHECK(equal(floats, twin));
      for (uint32_t kind = 0; kind < 4; kind++) {
        if (kind > 0) {
          for (float& f : floats) f = float_at_random(kind - 1, &random);
        }
        floats_to_elements(floats.data(), count, type, upper.data(), lower.data());
        floats_to_elements_avx2(floats.data(), count, type, twin_upper.data(), twin_lower.data());
        CHECK(upper == twin_upper);
        CHECK(type != ElementType::kF32 || lower == twin_lower);
      }
    }
  }
}

TEST(quantizing, "rows are quantised and put back alike, at the edges of 16 bits and where values are no numbers") {
  if (!can_run()) return;
  Random random{44};
  for (const size_t tokens : kCounts) {
    for (uint32_t kind = 0; kind < 3; kind++) {
      constexpr size_t kRows = 3;
      QuantizedRow rows[kRows] = {};
      for (QuantizedRow& row : rows) {
        row.step = std::exp2(float(random.below(80)) / 8 - 5);
        row.inverse_step = 1 / row.step;
        row.offset = float(random.normal()) * row.step;
      }
      std::vector<float> values(kRows * tokens), tau(tokens), back(kRows * tokens), twin_back(kRows * tokens);
      for (float& v : values) v = float_at_random(kind, &random);
      for (float& t : tau) t = std::exp2(float(random.below(16)) / 2 - 4);
      std::vector<int16_t> q(kRows * tokens), twin_q(kRows * tokens);
      quantize_rows(values.data(), kRows, tokens, rows, tau.data(), q.data());
      quantize_rows_avx2(values.data(), kRows, tokens, rows, tau.data(), twin_q.data());
      at_case = "tokens " + std::to_string(tokens) + " kind " + std::to_string(kind);
      CHECK(q == twin_q);
      for (int16_t& one : q) one = int16_t(random.next());
      dequantize_rows(q.data(), kRows, tokens, rows, tau.data(), back.data());
      dequantize_rows_avx2(q.data(), kRows, tokens, rows, tau.data(), twin_back.data());
      CHECK(equal(back, twin_back));
    }
  }
  for (const size_t count : kCounts) {
    std::vector<uint8_t> symbols(count);
    for (uint8_t& s : symbols) s = uint8_t(random.next());
    std::vector<int16_t> q(count), twin(count);
    symbols_to_integers(symbols.data(), count, q.data());
    symbols_to_integers_avx2(symbols.data(), count, twin.data());
    CHECK(q == twin);
    for (size_t i = 0; i < count; i++) CHECK(q[i] == symbols[i] - 128);
  }
}

TEST(rotating, "pairs of rows turn alike") {
  if (!can_run()) return;
  Random random{45};
  for (const size_t tokens : kCounts) {
    for (const bool undo : {false, true}) {
      std::vector<float> a(tokens), b(tokens), cosines(tokens), sines(tokens);
      for (size_t t = 0; t < tokens; t++) {
        a[t] = float_at_random(1 + t % 2, &random), b[t] = float_at_random(1, &random);
        cosines[t] = float(random.uniform() * 2 - 1), sines[t] = float(random.uniform() * 2 - 1);
      }
      std::vector<float> twin_a = a, twin_b = b;
      rotate_pair(a.data(), b.data(), cosines.data(), sines.data(), tokens, undo);
      rotate_pair_avx2(twin_a.data(), twin_b.data(), cosines.data(), sines.data(), tokens, undo);
      CHECK(equal(a, twin_a) && equal(b, twin_b));
    }
  }
}

TEST(low_bits, "low bits of a row are packed alike from any bit on, and come back") {
  if (!can_run()) return;
  Random random{46};
  for (const size_t tokens : {4u, 8u, 12u, 16u, 40u, 256u}) {
    for (int round = 0; round < 60; round++) {
      std::vector<uint64_t> masks(tokens / 4);
      std::vector<uint16_t> factor(tokens), half(tokens), width(tokens);
      uint32_t sum = 0;
      for (size_t t = 0; t < tokens; t++) {
        const uint32_t bits = round == 0 ? 14 : round == 1 ? 0 : random.below(15);
        masks[t / 4] |= ((uint64_t(1) << bits) - 1) << (16 * (t % 4));
        factor[t] = uint16_t(1u << bits), half[t] = uint16_t(factor[t] >> 1), width[t] = uint16_t(bits);
        sum += bits;
      }
      const LowBits::Level level{masks.data(), factor.data(), half.data(), width.data()};
      std::vector<int16_t> q(tokens);
      for (int16_t& one : q) one = int16_t(random.next());
      const size_t start = random.below(40), bytes = (start + sum + 7) / 8;
      // Packing writes up to 8 bytes from where a word begins, unpacking reads as many.
      std::vector<uint8_t> packed(bytes + 8), twin(bytes + 8);
      for (size_t i = 0; i < start; i++) packed[i / 8] = uint8_t(packed[i / 8] | random.below(2) << (i % 8));
      twin = packed;
      size_t bit = start, twin_bit = start;
      pack_low_row(q.data(), tokens, level, packed.data(), &bit);
      pack_low_row_bmi2(q.data(), tokens, level, twin.data(), &twin_bit);
      at_case = "tokens " + std::to_string(tokens) + " round " + std::to_string(round);
      CHECK(bit == start + sum && twin_bit == bit && std::memcmp(packed.data(), twin.data(), bytes) == 0);
      // What q is without its low bits, which then come back.
      std::vector<int16_t> back(tokens), twin_back;
      for (size_t t = 0; t < tokens; t++) back[t] = int16_t((q[t] + half[t]) >> width[t]);
      twin_back = back;
      bit = twin_bit = start;
      add_low_row(packed.data(), tokens, level, back.data(), &bit);
      add_low_row_bmi2(packed.data(), tokens, level, twin_back.data(), &twin_bit);
      CHECK(bit == start + sum && twin_bit == bit && back == twin_back && back == q);
    }
  }
}

TEST(symbols, "integers become symbols alike, with low bits and without, and count the same escapes") {
  if (!can_run()) return;
  Random random{48};
  for (const size_t tokens : kCounts) {
    for (int round = 0; round < 30; round++) {
      std::vector<int16_t> q(tokens);
      std::vector<uint16_t> half(tokens), width(tokens);
      for (size_t t = 0; t < tokens; t++) {
        const uint32_t bits = random.below(15);
        half[t] = uint16_t((1u << bits) >> 1), width[t] = uint16_t(bits);
        // All sizes, and beside the first and the last that fit.
        q[t] = round % 3 == 0 ? int16_t(random.next()) : round % 3 == 1 ? int16_t(int16_t(random.next()) >> random.below(16)) : int16_t(int(random.below(6)) - 130 + int(random.below(2)) * 256);
      }
      for (const bool has_low_bits : {false, true}) {
        const uint16_t* const halves = has_low_bits ? half.data() : nullptr;
        const uint16_t* const widths = has_low_bits ? width.data() : nullptr;
        std::vector<uint8_t> out(tokens), twin(tokens);
        const size_t escapes = symbols_of_row(q.data(), halves, widths, tokens, out.data());
        CHECK(escapes == symbols_of_row_avx2(q.data(), halves, widths, tokens, twin.data()) && out == twin);
        size_t zeros = 0;
        for (size_t t = 0; t < tokens; t++) {
          const int high = halves == nullptr ? q[t] : (q[t] + half[t]) >> width[t];
          CHECK(out[t] == (high >= -127 && high <= 127 ? high + 128 : kSymbolEscape));
          zeros += out[t] == kSymbolEscape;
        }
        CHECK(escapes == zeros);
      }
    }
  }
}

TEST(strips, "16 tokens of a head are transposed into rows and back, and rows are loaded and stored alike from every order") {
  if (!can_run()) return;
  Random random{47};
  for (const size_t dims : {16u, 48u, 128u}) {
    const size_t stride = 16 + random.below(4);
    std::vector<std::vector<uint8_t>> lines(16, std::vector<uint8_t>(2 * dims)), back = lines;
    const uint8_t* from[16];
    uint8_t* to[16];
    for (int i = 0; i < 16; i++) {
      for (uint8_t& byte : lines[size_t(i)]) byte = uint8_t(random.next());
      from[i] = lines[size_t(i)].data(), to[i] = back[size_t(i)].data();
    }
    std::vector<uint16_t> rows((dims - 1) * stride + 16);
    load_strip_avx2(from, dims, rows.data(), stride);
    for (size_t d = 0; d < dims; d++) {
      for (size_t t = 0; t < 16; t++) CHECK(rows[d * stride + t] == (lines[t][2 * d] | lines[t][2 * d + 1] << 8));
    }
    store_strip_avx2(rows.data(), stride, dims, to);
    CHECK(back == lines);
  }
  for (uint32_t order = 0; order < kLayoutOrders; order++) {
    for (const uint32_t head_dim : {16u, 24u, 48u}) {
      for (const uint32_t count : {1u, 16u, 20u, 32u}) {
        const TensorLayout layout = make_layout(LayoutOrder(order), {2, 2, 48, 2, head_dim, ElementType::kBf16}, &random);
        std::vector<uint8_t> tensor(bytes_of(layout.shape)), stored(tensor.size()), twin_stored(tensor.size());
        for (uint8_t& byte : tensor) byte = uint8_t(random.next());
        const size_t begin = random.below(48 - count + 1), stride = count + random.below(3), room = layer_rows(layout.shape) * stride;
        std::vector<uint16_t> rows(room), twin(room);
        LayerAddress address;
        CHECK(layer_address(layout.order, layout.shape, layout.block_tokens, 1, &address) == Status::kOk);
        load_rows(tensor.data(), address, layout.shape, begin, count, twin.data(), nullptr, stride);
        store_rows(twin.data(), nullptr, stride, address, layout.shape, begin, count, twin_stored.data());
        cpu_force_scalar(true);
        load_rows(tensor.data(), address, layout.shape, begin, count, rows.data(), nullptr, stride);
        store_rows(rows.data(), nullptr, stride, address, layout.shape, begin, count, stored.data());
        cpu_force_scalar(false);
        CHECK(rows == twin && stored == twin_stored);
        // What was stored is what was there, and nothing else was touched.
        for (size_t i = 0; i < tensor.size(); i++) CHECK(stored[i] == tensor[i] || stored[i] == 0);
      }
    }
  }
}
#endif
