// Broken streams for both readers, seeded: they must end in kOk or kCorrupt, alike, within their spans (build it with --sanitize).
// Usage: hevc_fuzz [seconds = 10] [seed = 1]. Prints how many of each; fails with 1 where the readers differ.
// Build: test/addon/hevc/build.sh <directory> hevc_fuzz --sanitize (the lines are those of hevc_test.cc).
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "cpu.h"
#include "hevc/hevc.h"
#include "hevc_values.h"

using namespace kvreel;
using namespace hevc_test;

namespace {

// What a mutation does to the slice data of a stream; the headers are compared as a whole and would end most tries at once.
void mutate(std::vector<uint8_t>& stream, size_t first_slice, Random& random) {
  const uint32_t room = uint32_t(stream.size() - first_slice);
  const size_t at = first_slice + random.below(room);
  switch (random.below(7)) {
    case 0: stream[at] ^= uint8_t(1u << random.below(8)); break;
    case 1: stream[at] = uint8_t(random.next()); break;
    case 2:
      for (size_t i = at; i < stream.size() && i < at + 40; i++) stream[i] = uint8_t(random.next());
      break;
    case 3: stream.resize(at); break;
    case 4: std::memset(stream.data() + at, random.below(2) ? 255 : 0, std::min<size_t>(stream.size() - at, 1 + random.below(300))); break;
    case 5: stream.erase(stream.begin() + ptrdiff_t(at), stream.begin() + ptrdiff_t(std::min(stream.size(), at + 1 + random.below(20)))); break;
    default: stream.insert(stream.begin() + ptrdiff_t(at), 1 + random.below(20), uint8_t(random.next())); break;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 10;
  Random random(argc > 2 ? uint64_t(std::atoll(argv[2])) : 1);
  const clock_t start = std::clock();
  const HevcShape shape = {256, 256, 3};
  std::vector<int8_t> fast(hevc_values(shape));
  std::vector<int8_t> scalar(hevc_values(shape));
  std::vector<uint8_t> whole(hevc_encode_bound(shape));
  long tries = 0;
  long good = 0;
  long different = 0;
  while (double(std::clock() - start) < seconds * CLOCKS_PER_SEC) {
    const int kind = int(random.below(kKinds));
    const std::vector<int8_t> values = make_values(hevc_values(shape), kind, 0.05 * std::exp(5 * random.uniform()), random.next());
    size_t size = 0;
    if (hevc_encode(shape, {values.data(), values.size()}, {whole.data(), whole.size()}, &size, nullptr) != Status::kOk) continue;
    // The first slice header follows the flat picture; its type byte is 2 (TRAIL_R).
    size_t first_slice = 0;
    while (first_slice + 5 < size && !(whole[first_slice] == 0 && whole[first_slice + 1] == 0 && whole[first_slice + 2] == 0 && whole[first_slice + 3] == 1 &&
                                       whole[first_slice + 4] == 2)) {
      first_slice++;
    }
    for (int n = 0; n < 50; n++) {
      std::vector<uint8_t> stream(whole.begin(), whole.begin() + ptrdiff_t(size));
      for (uint32_t m = 1 + random.below(3); m > 0 && stream.size() > first_slice + 1; m--) mutate(stream, first_slice, random);
      stream.shrink_to_fit();
      const Status with_fast = hevc_decode(shape, {stream.data(), stream.size()}, {fast.data(), fast.size()}, nullptr);
      cpu_force_scalar(true);
      const Status with_scalar = hevc_decode(shape, {stream.data(), stream.size()}, {scalar.data(), scalar.size()}, nullptr);
      cpu_force_scalar(false);
      tries++;
      good += with_fast == Status::kOk;
      const bool known = with_fast == Status::kOk || with_fast == Status::kCorrupt;
      if (!known || with_fast != with_scalar || (with_fast == Status::kOk && fast != scalar)) {
        different++;
        std::printf("readers differ: %s, fast %d, scalar %d\n", kind_name(kind), int(with_fast), int(with_scalar));
      }
    }
  }
  std::printf("%ld tries, %ld decoded, %ld corrupt, %ld different\n", tries, good, tries - good, different);
  return different != 0;
}
