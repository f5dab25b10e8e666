#include "layout.h"

#include <cstring>

#include "check.h"

using namespace kvreel;

namespace {

constexpr LayoutOrder kOrders[] = {
    LayoutOrder::kSplit,        LayoutOrder::kFused,       LayoutOrder::kLmcache2ltd,      LayoutOrder::kMla,
    LayoutOrder::kVllmCpuPages, LayoutOrder::kVllmCpuRows, LayoutOrder::kSglangLayerFirst, LayoutOrder::kSglangPageFirst,
};
constexpr ElementType kTypes[] = {
    ElementType::kBf16,   ElementType::kF16,    ElementType::kF32,
    ElementType::kF8E4m3, ElementType::kF8E5m2, ElementType::kU8,
};

bool is_paged(LayoutOrder order) { return order >= LayoutOrder::kVllmCpuPages; }

struct Sample {
  KvShape shape;
  uint32_t block;
};

// Small, mostly odd dimensions.
Sample random_sample(LayoutOrder order, ElementType type, kvreel_test::Random* random) {
  const bool is_mla = order == LayoutOrder::kMla;
  uint32_t block = 1 + random->below(9);
  if (order == LayoutOrder::kVllmCpuRows) block *= 2;
  const uint32_t tokens = is_paged(order) ? block * (1 + random->below(4)) : 1 + random->below(23);
  const uint32_t heads = is_mla ? 1 : 1 + random->below(5);
  return {{1 + random->below(4), is_mla ? 1u : 2u, tokens, heads, 1 + random->below(17), type}, is_paged(order) ? block : 0};
}

size_t bytes_of(const KvShape& shape) {
  size_t bytes = 0;
  CHECK(tensor_bytes(shape, &bytes) == Status::kOk);
  return bytes;
}

// The index of an element, in elements, written out by hand from the bracketed shapes in lib/types.ts.
size_t index_of(LayoutOrder order, const KvShape& shape, size_t B, size_t l, size_t p, size_t h, size_t t, size_t d) {
  const size_t L = shape.layers, T = shape.tokens, H = shape.kv_heads, D = shape.head_dim;
  switch (order) {
    case LayoutOrder::kSplit: return (((l * 2 + p) * H + h) * T + t) * D + d;
    case LayoutOrder::kFused: return (((l * T + t) * H + h) * 2 + p) * D + d;
    case LayoutOrder::kLmcache2ltd: return (((p * L + l) * T + t) * H + h) * D + d;
    case LayoutOrder::kMla: return (l * T + t) * D + d;
    case LayoutOrder::kVllmCpuPages: return ((((l * (T / B) + t / B) * H + h) * 2 + p) * B + t % B) * D + d;
    case LayoutOrder::kSglangLayerFirst: return (((((t / B) * 2 + p) * L + l) * B + t % B) * H + h) * D + d;
    case LayoutOrder::kSglangPageFirst: return (((((t / B) * 2 + p) * B + t % B) * L + l) * H + h) * D + d;
    case LayoutOrder::kVllmCpuRows: {
      // Inside the flat page [K: B x D][V: B x D], then that flat place as row and column of the [B][2D] view.
      const size_t flat = p * B * D + (t % B) * D + d;
      const size_t row = flat / (2 * D), column = flat % (2 * D);
      return ((l * T + (t / B) * B + row) * H + h) * (2 * D) + column;
    }
    case LayoutOrder::kBytes: break;
  }
  return SIZE_MAX;
}

// A tensor of 32-bit elements, whose element n holds the number n, low byte first.
std::vector<uint8_t> numbered(const KvShape& shape) {
  std::vector<uint8_t> bytes(bytes_of(shape));
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i / 4 >> (8 * (i % 4)));
  return bytes;
}

ConstBytes in(const std::vector<uint8_t>& bytes) { return {bytes.data(), bytes.size()}; }
Bytes out(std::vector<uint8_t>& bytes) { return {bytes.data(), bytes.size()}; }

uint32_t id_at(const std::vector<uint8_t>& bytes, size_t element) {
  const uint8_t* p = bytes.data() + element * 4;
  return uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
}

template <typename Visit>
void for_each_element(const KvShape& shape, Visit visit) {
  size_t dense = 0;
  for (uint32_t l = 0; l < shape.layers; ++l)
    for (uint32_t p = 0; p < shape.planes; ++p)
      for (uint32_t h = 0; h < shape.kv_heads; ++h)
        for (uint32_t t = 0; t < shape.tokens; ++t)
          for (uint32_t d = 0; d < shape.head_dim; ++d) visit(l, p, h, t, d, dense++);
}

}  // namespace

TEST(bijection, "packing a tensor of unique ids gives every id once, where the written-out index says") {
  kvreel_test::Random random{1};
  for (const LayoutOrder order : kOrders) {
    for (int round = 0; round < 60; ++round) {
      const auto [shape, block] = random_sample(order, ElementType::kF32, &random);
      const std::vector<uint8_t> tensor = numbered(shape);
      std::vector<uint8_t> packed(tensor.size());
      CHECK(pack(order, shape, block, in(tensor), out(packed)) == Status::kOk);
      std::vector<bool> seen(tensor.size() / 4);
      const uint32_t B = block;
      for_each_element(shape, [&, shape = shape](size_t l, size_t p, size_t h, size_t t, size_t d, size_t dense) {
        const uint32_t id = id_at(packed, dense);
        CHECK(id == index_of(order, shape, B, l, p, h, t, d));
        CHECK(id < seen.size() && !seen[id]);
        seen[id] = true;
      });
    }
  }
}

TEST(addresses, "plane_address's formula gives the written-out index") {
  kvreel_test::Random random{2};
  for (const LayoutOrder order : kOrders) {
    for (int round = 0; round < 30; ++round) {
      const auto [shape, block] = random_sample(order, kTypes[random.below(6)], &random);
      const size_t width = element_bytes(shape.type);
      const uint32_t B = block;
      for_each_element(shape, [&, shape = shape](size_t l, size_t p, size_t h, size_t t, size_t d, size_t) {
        if (d != 0) return;
        PlaneAddress a;
        CHECK(plane_address(order, shape, B, static_cast<uint32_t>(l), static_cast<uint32_t>(p), &a) == Status::kOk);
        const size_t offset = a.base + h * a.head_stride + t / a.outer_tokens * a.outer_stride +
                              t % a.outer_tokens / a.inner_tokens * a.inner_stride + t % a.outer_tokens % a.inner_tokens * a.token_stride;
        CHECK(offset == width * index_of(order, shape, B, l, p, h, t, 0));
      });
    }
  }
}

TEST(round_trip, "unpack undoes pack in every order and element type") {
  kvreel_test::Random random{3};
  for (const LayoutOrder order : kOrders) {
    for (const ElementType type : kTypes) {
      for (int round = 0; round < 10; ++round) {
        const auto [shape, block] = random_sample(order, type, &random);
        std::vector<uint8_t> tensor(bytes_of(shape));
        for (uint8_t& byte : tensor) byte = static_cast<uint8_t>(random.next());
        std::vector<uint8_t> packed(tensor.size()), back(tensor.size());
        CHECK(pack(order, shape, block, in(tensor), out(packed)) == Status::kOk);
        CHECK(unpack(order, shape, block, in(packed), out(back)) == Status::kOk);
        CHECK(back == tensor);
        if (order == LayoutOrder::kSplit) CHECK(packed == tensor);
      }
    }
  }
}

TEST(token_ranges, "gather and scatter of a token range touch those tokens and no others") {
  kvreel_test::Random random{4};
  for (const LayoutOrder order : kOrders) {
    for (int round = 0; round < 60; ++round) {
      const auto [shape, block] = random_sample(order, ElementType::kF32, &random);
      const uint32_t begin = random.below(shape.tokens), count = 1 + random.below(shape.tokens - begin);
      const uint32_t layer = random.below(shape.layers), plane = random.below(shape.planes);
      PlaneAddress address;
      CHECK(plane_address(order, shape, block, layer, plane, &address) == Status::kOk);
      const std::vector<uint8_t> tensor = numbered(shape);
      std::vector<uint8_t> dense(size_t{shape.kv_heads} * count * shape.head_dim * 4);
      CHECK(gather_plane(in(tensor), address, shape, begin, count, out(dense)) == Status::kOk);

      std::vector<uint8_t> expected(tensor.size(), 0xee), scattered(tensor.size(), 0xee);
      size_t at = 0;
      for (uint32_t h = 0; h < shape.kv_heads; ++h) {
        for (uint32_t t = begin; t < begin + count; ++t) {
          for (uint32_t d = 0; d < shape.head_dim; ++d, ++at) {
            const size_t index = index_of(order, shape, block, layer, plane, h, t, d);
            CHECK(id_at(dense, at) == index);
            std::memcpy(expected.data() + index * 4, dense.data() + at * 4, 4);
          }
        }
      }
      CHECK(scatter_plane(in(dense), address, shape, begin, count, out(scattered)) == Status::kOk);
      CHECK(scattered == expected);
    }
  }
}

TEST(vllm_cpu, "vLLM CPU pages and the rows gathered from them unpack to the K and V that were written into the pages") {
  const uint32_t L = 2, NB = 3, H = 3, B = 6, D = 5, T = NB * B;
  const KvShape shape{L, 2, T, H, D, ElementType::kF32};
  const size_t elements = bytes_of(shape) / 4;
  std::vector<uint32_t> split(elements), pages, rows(elements);
  for (size_t i = 0; i < elements; ++i) split[i] = static_cast<uint32_t>(i * 2654435761u);
  const auto key_or_value = [&](size_t l, size_t p, size_t h, size_t t) {
    return split.data() + (((l * 2 + p) * H + h) * T + t) * D;
  };
  for (size_t l = 0; l < L; ++l) {
    for (size_t block = 0; block < NB; ++block) {
      for (size_t h = 0; h < H; ++h) {
        // What the attention kernel writes: the block's keys, then its values.
        std::vector<uint32_t> page;
        for (size_t p = 0; p < 2; ++p) {
          for (size_t t = block * B; t < (block + 1) * B; ++t) page.insert(page.end(), key_or_value(l, p, h, t), key_or_value(l, p, h, t) + D);
        }
        pages.insert(pages.end(), page.begin(), page.end());
        // What the connector reads: the page as [B][2 * D], row r as "token" block * B + r of [L][T][H][2 * D].
        for (size_t r = 0; r < B; ++r) {
          std::memcpy(rows.data() + ((l * T + block * B + r) * H + h) * 2 * D, page.data() + r * 2 * D, 2 * D * 4);
        }
      }
    }
  }
  const auto check_packs_to_split = [&](LayoutOrder order, const std::vector<uint32_t>& tensor) {
    std::vector<uint32_t> packed(elements);
    CHECK(pack(order, shape, B, {reinterpret_cast<const uint8_t*>(tensor.data()), elements * 4},
               {reinterpret_cast<uint8_t*>(packed.data()), elements * 4}) == Status::kOk);
    CHECK(packed == split);
  };
  check_packs_to_split(LayoutOrder::kVllmCpuPages, pages);
  check_packs_to_split(LayoutOrder::kVllmCpuRows, rows);
}

TEST(vllm_cpu_vector, "two blocks of vLLM CPU rows, by eye") {
  // One layer, two heads, blocks of 4 tokens, head_dim 1; K of token t, head h is 10 * h + t, V is that plus 100.
  const std::vector<uint8_t> rows = {
      0,   1,   10,  11,   // block 0, row 0: head 0 K0 K1, head 1 K0 K1
      2,   3,   12,  13,   //          row 1: K2 K3
      100, 101, 110, 111,  //          row 2: V0 V1
      102, 103, 112, 113,  //          row 3: V2 V3
      4,   5,   14,  15,   // block 1, row 0: K4 K5
      6,   7,   16,  17,   104, 105, 114, 115, 106, 107, 116, 117,
  };
  const std::vector<uint8_t> split = {
      0,   1,   2,   3,   4,   5,   6,   7,   10,  11,  12,  13,  14,  15,  16,  17,   // K of head 0, of head 1
      100, 101, 102, 103, 104, 105, 106, 107, 110, 111, 112, 113, 114, 115, 116, 117,  // V
  };
  const KvShape shape{1, 2, 8, 2, 1, ElementType::kU8};
  std::vector<uint8_t> packed(split.size());
  CHECK(pack(LayoutOrder::kVllmCpuRows, shape, 4, in(rows), out(packed)) == Status::kOk);
  CHECK(packed == split);
}

TEST(sizes, "shapes outside the limits are refused before anything is multiplied with them") {
  const KvShape good{2, 2, 16, 2, 8, ElementType::kBf16};
  size_t bytes = 0;
  CHECK(tensor_bytes(good, &bytes) == Status::kOk && bytes == 2048);
  const auto is_refused = [](KvShape shape) {
    size_t ignored = 0;
    return tensor_bytes(shape, &ignored) == Status::kInvalidArgument;
  };
  const auto with = [&](auto member, auto value) {
    KvShape shape = good;
    shape.*member = value;
    return shape;
  };
  CHECK(is_refused(with(&KvShape::layers, 0u)) && is_refused(with(&KvShape::layers, kMaxLayers + 1)));
  CHECK(is_refused(with(&KvShape::planes, 0u)) && is_refused(with(&KvShape::planes, 3u)));
  CHECK(is_refused(with(&KvShape::tokens, 0u)) && is_refused(with(&KvShape::tokens, kMaxTokens + 1)));
  CHECK(is_refused(with(&KvShape::kv_heads, 0u)) && is_refused(with(&KvShape::kv_heads, 8193u)));
  CHECK(is_refused(with(&KvShape::head_dim, 0u)) && is_refused(with(&KvShape::head_dim, 0xffffffffu)));
  CHECK(is_refused(with(&KvShape::type, static_cast<ElementType>(6))));
  CHECK(is_refused({kMaxLayers, 2, kMaxTokens, 512, 128, ElementType::kF32}));
  CHECK(is_refused({1, 2, 1u << 20, 1024, 64, ElementType::kF32}) == false);
  CHECK(is_refused({2, 2, 1u << 20, 1024, 64, ElementType::kF32}));  // exactly 2^40

  CHECK(checked_bytes({uint64_t{1} << 20, (uint64_t{1} << 20) - 1}, &bytes));
  CHECK(!checked_bytes({uint64_t{1} << 20, uint64_t{1} << 20}, &bytes));
  CHECK(!checked_bytes({uint64_t{1} << 63, uint64_t{1} << 63, uint64_t{1} << 2}, &bytes));
  CHECK(checked_bytes({5, 0, 7}, &bytes) && bytes == 0);
  size_t offset = SIZE_MAX;
  CHECK(!checked_advance(&offset, 1, 1));
  offset = 10;
  CHECK(!checked_advance(&offset, UINT64_MAX, UINT64_MAX) && offset == 10);
}

TEST(refused_layouts, "an order that does not fit the shape is refused") {
  PlaneAddress address;
  const KvShape shape{2, 2, 12, 3, 4, ElementType::kF16};
  const KvShape mla{2, 1, 12, 1, 4, ElementType::kF16};
  const auto status_of = [&](LayoutOrder order, const KvShape& of, uint32_t block, uint32_t layer, uint32_t plane) {
    return plane_address(order, of, block, layer, plane, &address);
  };
  CHECK(status_of(LayoutOrder::kSplit, shape, 0, 1, 1) == Status::kOk);
  CHECK(status_of(LayoutOrder::kSplit, shape, 0, 2, 0) == Status::kInvalidArgument);
  CHECK(status_of(LayoutOrder::kSplit, shape, 0, 0, 2) == Status::kInvalidArgument);
  CHECK(status_of(LayoutOrder::kSplit, mla, 0, 0, 0) == Status::kInvalidArgument);
  CHECK(status_of(LayoutOrder::kMla, mla, 0, 1, 0) == Status::kOk);
  CHECK(status_of(LayoutOrder::kMla, mla, 0, 0, 1) == Status::kInvalidArgument);
  CHECK(status_of(LayoutOrder::kMla, shape, 0, 0, 0) == Status::kInvalidArgument);
  CHECK(status_of(LayoutOrder::kMla, {2, 1, 12, 3, 4, ElementType::kF16}, 0, 0, 0) == Status::kInvalidArgument);
  for (const LayoutOrder order : kOrders) {
    if (!is_paged(order)) continue;
    CHECK(status_of(order, shape, 6, 0, 0) == Status::kOk);
    CHECK(status_of(order, shape, 0, 0, 0) == Status::kInvalidArgument);
    CHECK(status_of(order, shape, 5, 0, 0) == Status::kInvalidArgument);
    CHECK(status_of(order, shape, 24, 0, 0) == Status::kInvalidArgument);
  }
  CHECK(status_of(LayoutOrder::kVllmCpuRows, shape, 3, 0, 0) == Status::kInvalidArgument);
  CHECK(status_of(LayoutOrder::kVllmCpuPages, shape, 3, 0, 0) == Status::kOk);
  CHECK(status_of(LayoutOrder::kBytes, shape, 0, 0, 0) == Status::kUnsupported);
  CHECK(status_of(static_cast<LayoutOrder>(200), shape, 0, 0, 0) == Status::kUnsupported);
}

TEST(bounds, "gather, scatter, pack and unpack refuse spans that are one byte too short, and hostile addresses") {
  const KvShape shape{2, 2, 12, 3, 4, ElementType::kF16};
  const size_t whole = bytes_of(shape), one = whole / 4;
  std::vector<uint8_t> tensor(whole), dense(whole);
  const auto pack_status = [&](size_t in_size, size_t out_size) {
    return pack(LayoutOrder::kFused, shape, 0, in(tensor).first(in_size), out(dense).first(out_size));
  };
  CHECK(pack_status(whole, whole) == Status::kOk);
  CHECK(pack_status(whole - 1, whole) == Status::kInvalidArgument);
  CHECK(pack_status(whole, whole - 1) == Status::kBufferTooSmall);
  CHECK(unpack(LayoutOrder::kFused, shape, 0, in(dense).first(whole - 1), out(tensor)) == Status::kInvalidArgument);
  CHECK(unpack(LayoutOrder::kFused, shape, 0, in(dense), out(tensor).first(whole - 1)) == Status::kBufferTooSmall);

  // Exact allocations, so that a sanitizer sees any byte beyond them.
  for (const LayoutOrder order : kOrders) {
    if (order == LayoutOrder::kMla) continue;
    PlaneAddress last;
    CHECK(plane_address(order, shape, 6, 1, 1, &last) == Status::kOk);
    std::vector<uint8_t> plane(one);
    CHECK(gather_plane(in(tensor), last, shape, 0, 12, out(plane)) == Status::kOk);
    CHECK(gather_plane(in(tensor).first(whole - 1), last, shape, 0, 12, out(plane)) == Status::kInvalidArgument);
    CHECK(gather_plane(in(tensor), last, shape, 0, 12, out(plane).first(one - 1)) == Status::kBufferTooSmall);
    CHECK(scatter_plane(in(plane), last, shape, 0, 12, out(tensor)) == Status::kOk);
    CHECK(scatter_plane(in(plane), last, shape, 0, 12, out(tensor).first(whole - 1)) == Status::kBufferTooSmall);
    CHECK(scatter_plane(in(plane).first(one - 1), last, shape, 0, 12, out(tensor)) == Status::kInvalidArgument);
    CHECK(gather_plane(in(tensor), last, shape, 0, 0, out(plane)) == Status::kInvalidArgument);
    CHECK(gather_plane(in(tensor), last, shape, 1, 12, out(plane)) == Status::kInvalidArgument);
    CHECK(gather_plane(in(tensor), last, shape, 0xffffffff, 2, out(plane)) == Status::kInvalidArgument);
    CHECK(gather_plane(in(tensor), last, shape, 2, 0xffffffff, out(plane)) == Status::kInvalidArgument);
  }

  kvreel_test::Random random{5};
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    size_t fields[7];
    // Small, huge and in-between fields: most addresses leave the tensor, and none may be followed there.
    for (size_t& field : fields) field = random.below(3) == 0 ? random.next() >> random.below(64) : random.below(64);
    const PlaneAddress address{fields[0], fields[1], fields[2], fields[3], fields[4], fields[5], fields[6]};
    const Status gathered = gather_plane(in(tensor), address, shape, 0, 12, out(dense));
    const Status scattered = scatter_plane(in(dense), address, shape, 0, 12, out(tensor));
    CHECK((gathered == Status::kOk) == (scattered == Status::kOk));
    if (gathered != Status::kOk) ++refused;
  }
  CHECK(refused > 1000 && refused < 20000);
}
