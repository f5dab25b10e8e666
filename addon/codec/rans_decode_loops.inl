// Decoding with eight lanes as one vector: groups are walked in lockstep to hide the latency of table look-up. Compiled for AVX2
// (rans_avx2.cc) and for AVX-512 (rans_avx512.cc). The including file defines KVREEL_VARIANT(name) and decode_step().
namespace {

// Where the tables of eight tokens of one channel begin, in entries: they all use the channel's own, or each token moves it.
template <typename Table>
inline __m256i moved_tables(int32_t table, int32_t last, const int32_t* shift) noexcept {
  constexpr int32_t entries = sizeof(Table) / sizeof(uint32_t);
  const __m256i moved = _mm256_add_epi32(_mm256_set1_epi32(table), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(shift)));
  const __m256i kept = _mm256_min_epi32(_mm256_max_epi32(moved, _mm256_setzero_si256()), _mm256_set1_epi32(last));
  return _mm256_mullo_epi32(kept, _mm256_set1_epi32(entries));
}

// The words of one stream. A step loads 16 bytes and may use them all: the last ones are moved to where as many more can be read.
struct Words {
  const uint8_t* next;
  const uint8_t* end;
  bool moved;
  uint8_t tail[32];

  // Call before each step. False where the step before used more than there was.
  bool prepare() noexcept {
    if (end - next >= 16 || (moved && next <= end)) return true;
    if (moved) return false;
    const size_t left = size_t(end - next);
    std::memset(tail, 0, sizeof tail);
    std::memcpy(tail, next, left);
    next = tail;
    end = tail + left;
    moved = true;
    return true;
  }
};

// For how many channels no stream can come to its end: a step takes 16 bytes at most.
inline size_t channels_before_end(const Words* words, size_t count, size_t tokens) noexcept {
  ptrdiff_t least = PTRDIFF_MAX;
  for (size_t s = 0; s < count; s++) {
    const ptrdiff_t left = words[s].end - words[s].next;
    least = left < least ? left : least;
  }
  return least < 0 ? 0 : size_t(least) / (16 * (tokens / kRansLanes));
}

// One channel in N streams, all its tokens from one table, where no stream can come to its end. The places of words and symbols are
// copied so that they stay in registers: otherwise each step would store them and load them again.
template <size_t N>
inline void decode_channel(__m256i (&state)[N], Words (&words)[N], const RansStream* streams, const uint32_t* table, size_t channel_at, size_t tokens) noexcept {
  const uint8_t* next[N];
  uint8_t* out[N];
  for (size_t s = 0; s < N; s++) {
    next[s] = words[s].next;
    out[s] = streams[s].symbols + channel_at;
  }
  for (size_t t = 0; t < tokens; t += kRansLanes) {
    for (size_t s = 0; s < N; s++) state[s] = decode_step(state[s], table, _mm256_setzero_si256(), next[s], out[s] + t);
  }
  for (size_t s = 0; s < N; s++) words[s].next = next[s];
}

template <size_t N>
Status decode_lockstep(const RansPlan& plan, const RansDecodeTable* tables, RansStream* streams, size_t stride, size_t tokens) noexcept {
  __m256i state[N];
  Words words[N];
  uint8_t* symbols[N];
  for (size_t s = 0; s < N; s++) {
    const ConstBytes in = streams[s].in;
    if (in.size < 4 * kRansLanes) return Status::kCorrupt;
    state[s] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in.data));
    words[s].next = in.data + 4 * kRansLanes;
    words[s].end = in.data + in.size;
    words[s].moved = false;
    symbols[s] = streams[s].symbols;
  }
  size_t unchecked = 0;
  for (size_t i = 0; i < plan.order.size; i++) {
    const size_t channel = plan.order[i];
    const int32_t own = plan.table_of_channel[channel], last = plan.last_table_of_channel == nullptr ? 0 : plan.last_table_of_channel[channel];
    const uint32_t* table = last == 0 ? tables[own].slot : tables->slot;
    if (unchecked == 0) unchecked = channels_before_end(words, N, tokens);
    const bool check = unchecked == 0;
    if (!check) unchecked--;
    if (!check && last == 0) {
      decode_channel(state, words, streams, table, channel * stride, tokens);
      continue;
    }
    for (size_t t = 0; t < tokens; t += kRansLanes) {
      if (check) {
        bool enough = true;
        for (size_t s = 0; s < N; s++) enough &= words[s].prepare();
        if (!enough) return Status::kCorrupt;
      }
      for (size_t s = 0; s < N; s++) {
        const __m256i offset = last == 0 ? _mm256_setzero_si256() : moved_tables<RansDecodeTable>(own, last, streams[s].table_shift + t);
        state[s] = decode_step(state[s], table, offset, words[s].next, symbols[s] + channel * stride + t);
      }
    }
  }
  const __m256i one = _mm256_set1_epi32(1);
  for (size_t s = 0; s < N; s++) {
    if (words[s].next != words[s].end) return Status::kCorrupt;
    if (_mm256_movemask_epi8(_mm256_cmpeq_epi32(_mm256_srli_epi32(state[s], 16), one)) != -1) return Status::kCorrupt;
    const __m256i low = _mm256_and_si256(state[s], _mm256_set1_epi32(0xffff));
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(streams[s].carried.byte), _mm256_castsi256_si128(packed));
  }
  return Status::kOk;
}

}  // namespace

Status KVREEL_VARIANT(rans_decode)(const RansPlan& plan, const RansDecodeTable* tables, Span<RansStream> streams, size_t stride, size_t tokens) noexcept {
  Status status = Status::kOk;
  for (size_t s = 0; s < streams.size && status == Status::kOk;) {
    RansStream* const first = streams.data + s;
    const size_t left = streams.size - s, lockstep = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    switch (lockstep) {
      case 8: status = decode_lockstep<8>(plan, tables, first, stride, tokens); break;
      case 4: status = decode_lockstep<4>(plan, tables, first, stride, tokens); break;
      case 2: status = decode_lockstep<2>(plan, tables, first, stride, tokens); break;
      default: status = decode_lockstep<1>(plan, tables, first, stride, tokens);
    }
    s += lockstep;
  }
  return status;
}
