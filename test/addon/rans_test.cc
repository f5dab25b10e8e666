#include "rans.h"

#include <cmath>
#include <cstring>

#include "check.h"
#include "cpu.h"

using namespace kvreel;
using namespace kvreel_test;

namespace {

constexpr size_t kTokenCounts[] = {1, 5, 7, 8, 9, 13, 16, 17, 24, 256};

// Groups of equal plan that are coded together. `alphabet` symbols a table; the first table with weights that fall slowly, later ones faster.
struct Groups {
  size_t channels, tokens, stride;
  std::vector<RansFrequencies> frequencies;
  std::vector<RansEncodeTable> encode_tables;
  std::vector<RansDecodeTable> decode_tables;
  std::vector<uint16_t> order;
  std::vector<uint8_t> table_of_channel, last_table_of_channel;
  std::vector<std::vector<uint8_t>> symbols;
  std::vector<std::vector<int32_t>> shifts;
  std::vector<RansCarried> carried;
  double entropy_bytes = 0;  // of all groups

  Groups(size_t channel_count, size_t token_count, uint32_t alphabet, uint32_t tables, bool moves, size_t groups, Random* random)
      : channels(channel_count), tokens(token_count), stride(token_count + random->below(3)) {
    for (uint32_t table = 0; table < tables; table++) {
      uint32_t histogram[kRansSymbols] = {};
      const uint32_t first = random->below(uint32_t(kRansSymbols) - alphabet + 1);
      for (uint32_t s = 0; s < alphabet; s++) histogram[first + s] = 1 + uint32_t(1e6 * std::exp(-double(s * table) / 8) * random->uniform());
      frequencies.emplace_back();
      rans_normalise(histogram, kRansSymbols, &frequencies.back());
      encode_tables.emplace_back();
      rans_build_encode_table(frequencies.back(), &encode_tables.back());
      decode_tables.emplace_back();
      rans_build_decode_table(frequencies.back(), &decode_tables.back());
    }
    for (size_t c = 0; c < channels; c++) {
      order.push_back(uint16_t(c));
      // A channel that moves may start at any number: what counts is where it is moved to.
      const bool moving = moves && random->below(3) != 0 && tables > 1;
      table_of_channel.push_back(uint8_t(random->below(moving ? 256 : tables)));
      last_table_of_channel.push_back(moving ? uint8_t(1 + random->below(tables - 1)) : uint8_t(0));
    }
    for (size_t c = channels; c > 1; c--) std::swap(order[c - 1], order[random->below(uint32_t(c))]);
    for (size_t g = 0; g < groups; g++) {
      shifts.emplace_back(tokens);
      for (int32_t& shift : shifts.back()) shift = int32_t(random->below(80)) - 40;
      carried.emplace_back();
      for (uint8_t& byte : carried.back().byte) byte = uint8_t(random->next());
      symbols.emplace_back(room(), uint8_t(0));
      for (size_t c = 0; c < channels; c++) {
        for (size_t t = 0; t < tokens; t++) {
          const uint32_t table = rans_table_of(plan(), c, shifts.back().data(), t);
          const uint8_t symbol = uint8_t(decode_tables[table].slot[random->below(kRansScale)]);
          symbols.back()[c * stride + t] = symbol;
          entropy_bytes += std::log2(double(kRansScale) / frequencies[table].of[symbol]) / 8;
        }
      }
    }
  }

  size_t room() const { return (channels - 1) * stride + tokens; }
  RansPlan plan() const { return {{order.data(), order.size()}, table_of_channel.data(), last_table_of_channel.data()}; }

  std::vector<std::vector<uint8_t>> encode(bool scalar) const {
    std::vector<std::vector<uint8_t>> memory(symbols.size());
    std::vector<RansEncodeStream> streams;
    for (size_t g = 0; g < symbols.size(); g++) {
      memory[g].resize(rans_encode_bound(channels, tokens));
      streams.push_back({symbols[g].data(), shifts[g].data(), carried[g], {memory[g].data(), memory[g].size()}, {}});
    }
    cpu_force_scalar(scalar);
    rans_encode(plan(), encode_tables.data(), {streams.data(), streams.size()}, stride, tokens);
    cpu_force_scalar(false);
    std::vector<std::vector<uint8_t>> encoded;
    for (const RansEncodeStream& s : streams) encoded.emplace_back(s.encoded.data, s.encoded.data + s.encoded.size);
    return encoded;
  }

  struct Decoded {
    Status status;
    std::vector<std::vector<uint8_t>> symbols;
    std::vector<RansCarried> carried;
  };
  Decoded decode(const std::vector<std::vector<uint8_t>>& encoded, bool scalar) const {
    Decoded decoded{};
    std::vector<RansStream> streams;
    decoded.symbols.assign(encoded.size(), std::vector<uint8_t>(room()));
    for (size_t g = 0; g < encoded.size(); g++) {
      streams.push_back({{encoded[g].data(), encoded[g].size()}, decoded.symbols[g].data(), shifts[g].data(), {}});
    }
    cpu_force_scalar(scalar);
    decoded.status = rans_decode(plan(), decode_tables.data(), {streams.data(), streams.size()}, stride, tokens);
    cpu_force_scalar(false);
    for (const RansStream& s : streams) decoded.carried.push_back(s.carried);
    return decoded;
  }

  // The symbols, without what lies between the rows.
  bool has_symbols(const std::vector<uint8_t>& other, size_t group) const {
    for (size_t c = 0; c < channels; c++) {
      if (std::memcmp(other.data() + c * stride, symbols[group].data() + c * stride, tokens) != 0) return false;
    }
    return true;
  }
};

std::vector<uint8_t> exact_copy(const std::vector<uint8_t>& from, size_t length) { return std::vector<uint8_t>(from.begin(), from.begin() + ptrdiff_t(length)); }

}  // namespace

TEST(round_trip, "symbols and carried bytes come back, for every token count, alphabet, number of tables and of groups, moved or not") {
  Random random{21};
  for (const size_t tokens : kTokenCounts) {
    for (const uint32_t alphabet : {1u, 2u, 17u, 255u, 256u}) {
      for (const bool moves : {false, true}) {
        for (const size_t count : {1u, 2u, 4u, 7u}) {
          const Groups groups(1 + random.below(40), tokens, alphabet, 1 + random.below(25), moves, count, &random);
          at_case = "tokens " + std::to_string(tokens) + " alphabet " + std::to_string(alphabet) + " moves " + std::to_string(moves);
          const auto encoded = groups.encode(false);
          CHECK(encoded == groups.encode(true));
          for (const bool scalar : {false, true}) {
            const Groups::Decoded decoded = groups.decode(encoded, scalar);
            CHECK(decoded.status == Status::kOk);
            for (size_t g = 0; g < count; g++) {
              CHECK(groups.has_symbols(decoded.symbols[g], g));
              CHECK(std::memcmp(decoded.carried[g].byte, groups.carried[g].byte, rans_carried_bytes(tokens)) == 0);
            }
          }
        }
      }
    }
  }
}

TEST(size, "an encoded group is at most 1 % longer than its entropy and the states") {
  Random random{22};
  for (const size_t tokens : kTokenCounts) {
    for (const uint32_t alphabet : {2u, 40u, 256u}) {
      for (const bool moves : {false, true}) {
        const Groups groups(4000 / tokens, tokens, alphabet, 12, moves, 3, &random);
        at_case = "tokens " + std::to_string(tokens) + " alphabet " + std::to_string(alphabet);
        size_t bytes = 0;
        for (const auto& one : groups.encode(false)) bytes += one.size();
        const double states = 3 * 4 * double(tokens < kRansLanes ? tokens : kRansLanes);
        CHECK(double(bytes) <= 1.01 * groups.entropy_bytes + states);
        // The carried bytes come out of the states, so the states' lower halves are no waste.
        CHECK(double(bytes) >= groups.entropy_bytes * 0.999);
      }
    }
  }
}

TEST(damaged_streams, "a stream that was cut, lengthened or flipped is corrupt or decodes to other symbols, alike in both variants") {
  Random random{23};
  for (const size_t tokens : kTokenCounts) {
    for (const size_t count : {1u, 4u}) {
      const Groups groups(1 + random.below(30), tokens, 60, 9, count == 4, count, &random);
      at_case = "tokens " + std::to_string(tokens);
      const auto encoded = groups.encode(false);
      const auto check = [&](const std::vector<std::vector<uint8_t>>& bad, bool may_decode) {
        const Groups::Decoded fast = groups.decode(bad, false), scalar = groups.decode(bad, true);
        CHECK(fast.status == scalar.status);
        CHECK(fast.status == Status::kCorrupt || (may_decode && fast.status == Status::kOk));
        CHECK(fast.status != Status::kOk || fast.symbols == scalar.symbols);
      };
      const size_t victim = random.below(uint32_t(count)), length = encoded[victim].size();
      for (size_t cut = 0; cut < length; cut += 1 + cut / 40) {
        auto bad = encoded;
        bad[victim] = exact_copy(encoded[victim], cut);
        check(bad, false);
      }
      for (const size_t more : {1, 2, 16, 33}) {
        auto bad = encoded;
        bad[victim].resize(length + more);
        bad[victim] = exact_copy(bad[victim], length + more);
        check(bad, false);
      }
      for (int n = 0; n < 200; n++) {
        auto bad = encoded;
        const uint32_t at = n % 2 == 0 ? random.below(uint32_t(length)) : random.below(uint32_t(length < 40 ? length : 40));
        bad[victim][at] ^= uint8_t(1u << random.below(8));
        const Groups::Decoded decoded = groups.decode(bad, false);
        check(bad, true);
        // rANS walks a bijection: another stream cannot mean the same symbols and carried bytes.
        CHECK(decoded.status != Status::kOk || !groups.has_symbols(decoded.symbols[victim], victim) ||
              std::memcmp(decoded.carried[victim].byte, groups.carried[victim].byte, rans_carried_bytes(tokens)) != 0);
      }
      for (int n = 0; n < 50; n++) {
        auto bad = encoded;
        bad[victim] = std::vector<uint8_t>(random.below(200));
        for (uint8_t& byte : bad[victim]) byte = uint8_t(random.next() >> 56 & random.next());
        check(bad, true);
      }
    }
  }
}

TEST(normalise, "frequencies sum to the scale and keep every symbol, or give up rare ones for the escape") {
  Random random{24};
  for (int n = 0; n < 3000; n++) {
    uint32_t histogram[kRansSymbols] = {};
    const uint32_t used = random.below(257);
    for (uint32_t s = 0; s < used; s++) histogram[random.below(256)] = uint32_t(random.next() >> (32 + random.below(32))) >> 8;
    const uint32_t escape = n % 2 == 0 ? uint32_t(kRansSymbols) : random.below(256);
    uint64_t total = 0;
    for (const uint32_t count : histogram) total += count;
    RansFrequencies frequencies;
    rans_normalise(histogram, escape, &frequencies);
    uint32_t sum = 0;
    for (uint32_t s = 0; s < kRansSymbols; s++) {
      sum += frequencies.of[s];
      if (frequencies.of[s] != 0 && total != 0 && s != escape) CHECK(histogram[s] != 0);
      if (frequencies.of[s] != 0 || histogram[s] == 0) continue;
      CHECK(escape < kRansSymbols && uint64_t(histogram[s]) * kRansScale * 3 < total && frequencies.of[escape] != 0);
    }
    CHECK(sum == kRansScale);
  }
}

TEST(frequencies, "written frequencies are read back, and no part of them is") {
  Random random{25};
  for (int n = 0; n < 300; n++) {
    uint32_t histogram[kRansSymbols] = {};
    for (uint32_t i = random.below(300); i > 0; i--) histogram[random.below(1 + uint32_t(n) % 256)] += random.below(1000);
    RansFrequencies frequencies, back;
    rans_normalise(histogram, kRansSymbols, &frequencies);
    std::vector<uint8_t> bytes(kRansFrequenciesBound);
    CHECK(rans_write_frequencies(frequencies, {bytes.data(), bytes.size() - 1}) == 0);
    const size_t length = rans_write_frequencies(frequencies, {bytes.data(), bytes.size()});
    CHECK(length > 2 && length <= kRansFrequenciesBound);
    bytes = exact_copy(bytes, length);
    size_t used = 0;
    CHECK(rans_read_frequencies({bytes.data(), bytes.size()}, &used, &back) == Status::kOk);
    CHECK(used == length && std::memcmp(&frequencies, &back, sizeof back) == 0);
    for (size_t cut = 0; cut < length; cut++) {
      const std::vector<uint8_t> part = exact_copy(bytes, cut);
      CHECK(rans_read_frequencies({part.data(), part.size()}, &used, &back) == Status::kCorrupt);
    }
  }
}

TEST(hostile_frequencies, "frequencies that leave the symbols, do not sum to the scale, or are too long are corrupt") {
  const auto read = [](const std::vector<uint8_t>& bytes, RansFrequencies* out) {
    size_t used = 0;
    const Status status = rans_read_frequencies({bytes.data(), bytes.size()}, &used, out);
    CHECK(status != Status::kOk || used <= bytes.size());
    return status;
  };
  RansFrequencies f;
  CHECK(read({7, 0, 0x80, 0x10}, &f) == Status::kOk && f.of[7] == kRansScale);
  CHECK(read({255, 0, 0x80, 0x10}, &f) == Status::kOk && f.of[255] == kRansScale);
  CHECK(read({255, 1, 0x80, 0x10, 0}, &f) == Status::kCorrupt);
  CHECK(read({1, 255, 0x80, 0x10}, &f) == Status::kCorrupt);
  CHECK(read({7, 0, 0xff, 0x0f}, &f) == Status::kCorrupt);
  CHECK(read({7, 0, 0x81, 0x10}, &f) == Status::kCorrupt);
  CHECK(read({7, 0, 0x80, 0x90, 0x00}, &f) == Status::kCorrupt);
  CHECK(read({7, 1, 0xff, 0x7f, 1}, &f) == Status::kCorrupt);
  CHECK(read({7, 0, 0}, &f) == Status::kCorrupt);
  Random random{26};
  for (int n = 0; n < 20000; n++) {
    std::vector<uint8_t> bytes(random.below(40));
    for (uint8_t& byte : bytes) byte = uint8_t(random.next() & (n % 2 == 0 ? 0xff : 0x8f));
    if (read(bytes, &f) != Status::kOk) continue;
    uint32_t sum = 0;
    for (const uint16_t one : f.of) sum += one;
    CHECK(sum == kRansScale);
  }
}

TEST(byte_strings, "byte strings come back in few bytes; cut ones are corrupt") {
  Random random{27};
  for (const size_t size : {1u, 2u, 7u, 8u, 9u, 100u, 4096u, 40000u}) {
    for (const uint32_t values : {1u, 3u, 256u}) {
      std::vector<uint8_t> bytes(size), encoded(rans_bytes_bound(size)), back(size);
      for (uint8_t& byte : bytes) byte = uint8_t(random.below(values));
      size_t length = 0;
      CHECK(rans_encode_bytes({bytes.data(), size}, {encoded.data(), encoded.size() - 1}, &length) == Status::kBufferTooSmall);
      CHECK(rans_encode_bytes({bytes.data(), size}, {encoded.data(), encoded.size()}, &length) == Status::kOk);
      CHECK(double(length) <= double(size) * std::log2(double(values)) / 8 * 1.02 + kRansFrequenciesBound + 4 * kRansLanes);
      encoded = exact_copy(encoded, length);
      cpu_force_scalar(true);
      std::vector<uint8_t> scalar(rans_bytes_bound(size));
      CHECK(rans_encode_bytes({bytes.data(), size}, {scalar.data(), scalar.size()}, &length) == Status::kOk && exact_copy(scalar, length) == encoded);
      cpu_force_scalar(false);
      CHECK(rans_decode_bytes({encoded.data(), encoded.size()}, {back.data(), size}) == Status::kOk && back == bytes);
      for (size_t cut = 0; cut < encoded.size(); cut += 1 + cut / 20) {
        const std::vector<uint8_t> part = exact_copy(encoded, cut);
        CHECK(rans_decode_bytes({part.data(), part.size()}, {back.data(), size}) == Status::kCorrupt);
      }
    }
  }
}
