// Size and speed of our HEVC writer and reader beside x265 ultrafast and libavcodec, on the same values in the same run.
// Usage: hevc_bench [--json] [--pictures n = 8] [--rounds n = 3] [files of int8 values ...]
// CPU time of one thread (of the whole process for x265), the best of `rounds`, all contestants in turn in each round.
// Build (from the repository root; both libraries are used here only, never by the package):
//   g++ -std=c++17 -O3 -Wall -Wextra -DKVREEL_AVX2 -Iaddon/codec -c addon/codec/cpu.cc addon/codec/hevc/hevc*.cc (the _avx2 ones with -mavx2 -mbmi -mbmi2 -mlzcnt)
//   g++ -std=c++17 -O3 -Wall -Wextra -Iaddon/codec test/addon/hevc/hevc_bench.cc *.o -lx265 -lavcodec -lavutil
// or test/addon/hevc/build.sh <directory> hevc_bench.
extern "C" {
#include <libavcodec/avcodec.h>
#include <libavutil/log.h>
}
#include <x265.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>

#include "cpu.h"
#include "hevc/hevc.h"
#include "hevc_values.h"

using namespace kvreel;
using namespace hevc_test;

namespace {

double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// One byte vector a picture: Y, Cb, Cr without padding.
std::vector<std::vector<uint8_t>> to_planes(HevcShape shape, const std::vector<int8_t>& values) {
  const size_t luma = size_t{shape.width} * shape.height;
  std::vector<std::vector<uint8_t>> planes(shape.pictures, std::vector<uint8_t>(luma * 3 / 2));
  for (size_t i = 0; i < values.size(); i++) {
    const HevcSample at = hevc_locate(shape, i);
    const size_t width = at.plane == 0 ? shape.width : shape.width / 2u;
    const size_t start = at.plane == 0 ? 0 : at.plane == 1 ? luma : luma * 5 / 4;
    planes[at.picture][start + at.y * width + at.x] = uint8_t(values[i] + 128);
  }
  return planes;
}

size_t with_x265(HevcShape shape, const std::vector<std::vector<uint8_t>>& planes, const char* preset) {
  x265_param* param = x265_param_alloc();
  x265_param_default_preset(param, preset, nullptr);
  param->logLevel = X265_LOG_NONE;
  param->sourceWidth = shape.width;
  param->sourceHeight = shape.height;
  param->fpsNum = 25;
  param->fpsDenom = 1;
  param->internalCsp = X265_CSP_I420;
  param->bLossless = 1;
  param->bframes = 0;
  param->bEmitInfoSEI = 0;
  param->frameNumThreads = 1;
  param->bEnableWavefront = 0;
  x265_param_parse(param, "pools", "none");
  x265_encoder* encoder = x265_encoder_open(param);
  x265_picture* picture = x265_picture_alloc();
  x265_picture_init(param, picture);
  const size_t luma = size_t{shape.width} * shape.height;
  size_t bytes = 0;
  size_t sent = 0;
  for (;;) {
    x265_nal* nals = nullptr;
    uint32_t count = 0;
    x265_picture* in = nullptr;
    if (sent < planes.size()) {
      uint8_t* data = const_cast<uint8_t*>(planes[sent].data());
      for (int p = 0; p < 3; p++) {
        picture->planes[p] = data + (p == 0 ? 0 : p == 1 ? luma : luma * 5 / 4);
        picture->stride[p] = shape.width >> (p > 0);
      }
      picture->bitDepth = 8;
      picture->pts = int64_t(sent++);
      in = picture;
    }
    const int got = x265_encoder_encode(encoder, &nals, &count, in, nullptr);
    for (uint32_t i = 0; i < count; i++) bytes += nals[i].sizeBytes;
    if (in == nullptr && got <= 0) break;
  }
  x265_picture_free(picture);
  x265_encoder_close(encoder);
  x265_param_free(param);
  return bytes;
}

void with_libavcodec(const std::vector<std::vector<uint8_t>>& packets, size_t* pictures) {
  AVCodecContext* context = avcodec_alloc_context3(avcodec_find_decoder(AV_CODEC_ID_HEVC));
  context->thread_count = 1;
  avcodec_open2(context, nullptr, nullptr);
  AVPacket* packet = av_packet_alloc();
  AVFrame* frame = av_frame_alloc();
  *pictures = 0;
  for (size_t i = 0; i <= packets.size(); i++) {
    if (i < packets.size()) {
      av_new_packet(packet, int(packets[i].size()));
      std::memcpy(packet->data, packets[i].data(), packets[i].size());
      avcodec_send_packet(context, packet);
      av_packet_unref(packet);
    } else {
      avcodec_send_packet(context, nullptr);
    }
    while (avcodec_receive_frame(context, frame) == 0) {
      ++*pictures;
      av_frame_unref(frame);
    }
  }
  av_frame_free(&frame);
  av_packet_free(&packet);
  avcodec_free_context(&context);
}

std::vector<std::vector<uint8_t>> to_packets(const std::vector<uint8_t>& stream) {
  std::vector<size_t> cuts = {0};
  bool first = true;
  for (size_t i = 0; i + 4 < stream.size(); i++) {
    if (stream[i] || stream[i + 1] || stream[i + 2] || stream[i + 3] != 1 || stream[i + 4] >> 1 >= 32) continue;
    if (!first) cuts.push_back(i);
    first = false;
  }
  cuts.push_back(stream.size());
  std::vector<std::vector<uint8_t>> packets;
  for (size_t c = 0; c + 1 < cuts.size(); c++) packets.emplace_back(stream.begin() + ptrdiff_t(cuts[c]), stream.begin() + ptrdiff_t(cuts[c + 1]));
  return packets;
}

// Of the values themselves, as if all came from one distribution; sets of mixed sigmas can be coded below it.
double entropy(const std::vector<int8_t>& values) {
  std::map<int, double> histogram;
  for (const int8_t v : values) histogram[v]++;
  double bits = 0;
  for (const auto& [value, count] : histogram) bits -= count * std::log2(count / double(values.size()));
  return bits / double(values.size());
}

struct Row {
  std::string name;
  double entropy, ours_bits, x265_bits;
  double write_scalar, write_fast, x265, read_scalar, read_fast, libavcodec;  // million values a second
};

bool measure(const std::string& name, HevcShape shape, const std::vector<int8_t>& values, int rounds, Row* row) {
  const auto planes = to_planes(shape, values);
  std::vector<uint8_t> stream(hevc_encode_bound(shape));
  std::vector<int8_t> back(values.size());
  size_t size = 0;
  size_t x265_size = 0;
  size_t shown = 0;
  double best[6];
  std::fill(best, best + 6, 1e9);
  std::vector<std::vector<uint8_t>> packets;
  bool good = true;
  for (int round = 0; round < rounds; round++) {
    for (int contestant = 0; contestant < 6; contestant++) {
      cpu_force_scalar(contestant == 0 || contestant == 3);
      const double start = cpu_seconds();
      if (contestant <= 1) good &= hevc_encode(shape, {values.data(), values.size()}, {stream.data(), stream.size()}, &size, nullptr) == Status::kOk;
      if (contestant == 2) x265_size = with_x265(shape, planes, "ultrafast");
      if (contestant == 3 || contestant == 4) good &= hevc_decode(shape, {stream.data(), size}, {back.data(), back.size()}, nullptr) == Status::kOk;
      if (contestant == 5) with_libavcodec(packets, &shown);
      best[contestant] = std::min(best[contestant], cpu_seconds() - start);
      if (contestant == 1) packets = to_packets({stream.data(), stream.data() + size});
      if (contestant == 3 || contestant == 4) good &= back == values;
    }
  }
  good &= shown == shape.pictures;
  const double count = double(values.size());
  *row = {name, entropy(values), 8.0 * double(size) / count, 8.0 * double(x265_size) / count, count / best[0] / 1e6, count / best[1] / 1e6,
          count / best[2] / 1e6, count / best[3] / 1e6, count / best[4] / 1e6, count / best[5] / 1e6};
  return good;
}

void print(const Row& r, bool json, bool first) {
  if (json) {
    std::printf("%s  {\"name\": \"%s\", \"entropy_bits\": %.4f, \"bits_per_value\": %.4f, \"x265_bits_per_value\": %.4f, \"write_scalar_mvalues_s\": %.1f, "
                "\"write_fast_mvalues_s\": %.1f, \"x265_mvalues_s\": %.1f, \"read_scalar_mvalues_s\": %.1f, \"read_fast_mvalues_s\": %.1f, "
                "\"libavcodec_mvalues_s\": %.1f}",
                first ? "" : ",\n", r.name.c_str(), r.entropy, r.ours_bits, r.x265_bits, r.write_scalar, r.write_fast, r.x265, r.read_scalar, r.read_fast,
                r.libavcodec);
    return;
  }
  if (first) {
    std::printf("%-28s %7s | %7s %7s %7s | %7s %7s %7s %6s | %7s %7s %7s %6s\n", "M values/s", "entropy", "ours", "x265uf", "ratio", "scalar", "fast", "x265uf",
                "x", "rd.sca", "rd.fast", "avcodec", "x");
  }
  std::printf("%-28s %7.3f | %7.4f %7.4f %7.4f | %7.1f %7.1f %7.1f %6.1f | %7.1f %7.1f %7.1f %6.2f\n", r.name.c_str(), r.entropy, r.ours_bits, r.x265_bits,
              r.ours_bits / r.x265_bits, r.write_scalar, r.write_fast, r.x265, r.write_fast / r.x265, r.read_scalar, r.read_fast, r.libavcodec,
              r.read_fast / r.libavcodec);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  av_log_set_level(AV_LOG_QUIET);
  bool json = false;
  int rounds = 3;
  HevcShape shape = {512, 512, 8};
  std::vector<std::string> files;
  for (int i = 1; i < argc; i++) {
    if (std::strcmp(argv[i], "--json") == 0) {
      json = true;
    } else if (std::strcmp(argv[i], "--pictures") == 0 && i + 1 < argc) {
      shape.pictures = uint16_t(std::atoi(argv[++i]));
    } else if (std::strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
      rounds = std::atoi(argv[++i]);
    } else {
      files.push_back(argv[i]);
    }
  }
  bool good = true;
  bool first = true;
  if (json) std::printf("[\n");
  Row row;
  for (const double sigma : {0.3, 0.5, 1.0, 2.0, 4.0, 8.0}) {
    char name[32];
    std::snprintf(name, sizeof name, "gaussian %g", sigma);
    good &= measure(name, shape, make_values(hevc_values(shape), 0, sigma, 7), rounds, &row);
    print(row, json, first);
    first = false;
  }
  for (const std::string& file : files) {
    std::vector<int8_t> values = read_values(file);
    const size_t pictures = (values.size() + 98303) / 98304;
    values.resize(pictures * 98304);
    good &= measure(file.substr(file.find_last_of('/') + 1), {256, 256, uint16_t(pictures)}, values, rounds, &row);
    print(row, json, first);
    first = false;
  }
  if (json) std::printf("\n]\n");
  if (!good) std::printf("FAILED: a stream did not come back as it went in\n");
  return good ? 0 : 1;
}
