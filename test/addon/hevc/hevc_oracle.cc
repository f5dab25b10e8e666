// Every stream through libavcodec, libde265 and our own reader, every sample compared with the values that went in.
// Usage: hevc_oracle [random streams = 500] [files of int8 values ...]; prints "N passed, M failed" last and fails with 1.
// Build (from the repository root; both libraries are used here only, never by the package):
//   g++ -std=c++17 -O2 -Wall -Wextra -DKVREEL_AVX2 -Iaddon/codec -c addon/codec/cpu.cc addon/codec/hevc/hevc*.cc (the _avx2 ones with -mavx2 -mbmi -mbmi2 -mlzcnt)
//   g++ -std=c++17 -O2 -Wall -Wextra -Iaddon/codec test/addon/hevc/hevc_oracle.cc *.o -lavcodec -lavutil -lde265
// or test/addon/hevc/build.sh <directory>.
extern "C" {
#include <libavcodec/avcodec.h>
#include <libavutil/log.h>
}
#include <libde265/de265.h>

#include <cstdlib>
#include <cstring>

#include "cpu.h"
#include "hevc/hevc.h"
#include "hevc_values.h"

using namespace kvreel;
using namespace hevc_test;

namespace {

// A decoded sequence: the three planes of each output picture, without padding.
using Planes = std::vector<std::vector<uint8_t>>;

void append_plane(std::vector<uint8_t>& out, const uint8_t* data, ptrdiff_t stride, int width, int height) {
  for (int y = 0; y < height; y++) out.insert(out.end(), data + y * stride, data + y * stride + width);
}

Planes with_libavcodec(HevcShape shape, const std::vector<uint8_t>& stream) {
  Planes pictures;
  AVCodecContext* context = avcodec_alloc_context3(avcodec_find_decoder(AV_CODEC_ID_HEVC));
  context->thread_count = 1;
  context->err_recognition = AV_EF_EXPLODE;
  if (avcodec_open2(context, nullptr, nullptr) < 0) return pictures;
  AVPacket* packet = av_packet_alloc();
  AVFrame* frame = av_frame_alloc();
  const auto drain = [&]() {
    while (avcodec_receive_frame(context, frame) == 0) {
      if (frame->width != shape.width || frame->height != shape.height || frame->format != AV_PIX_FMT_YUV420P) return;
      pictures.emplace_back();
      for (int p = 0; p < 3; p++) append_plane(pictures.back(), frame->data[p], frame->linesize[p], shape.width >> (p > 0), shape.height >> (p > 0));
      av_frame_unref(frame);
    }
  };
  // One packet per picture: split before each slice NAL (types 0 to 31); the parameter sets travel with the first.
  std::vector<size_t> cuts = {0};
  bool first = true;
  for (size_t i = 0; i + 4 < stream.size(); i++) {
    if (stream[i] || stream[i + 1] || stream[i + 2] || stream[i + 3] != 1) continue;
    if (stream[i + 4] >> 1 >= 32) continue;
    if (!first) cuts.push_back(i);
    first = false;
  }
  cuts.push_back(stream.size());
  bool good = true;
  for (size_t c = 0; c + 1 < cuts.size(); c++) {
    const size_t size = cuts[c + 1] - cuts[c];
    if (av_new_packet(packet, int(size)) < 0) break;
    std::memcpy(packet->data, stream.data() + cuts[c], size);
    good &= avcodec_send_packet(context, packet) == 0;
    av_packet_unref(packet);
    drain();
  }
  avcodec_send_packet(context, nullptr);
  drain();
  av_frame_free(&frame);
  av_packet_free(&packet);
  avcodec_free_context(&context);
  if (!good) pictures.clear();
  return pictures;
}

Planes with_libde265(HevcShape shape, const std::vector<uint8_t>& stream) {
  Planes pictures;
  de265_decoder_context* context = de265_new_decoder();
  de265_push_data(context, stream.data(), int(stream.size()), 0, nullptr);
  de265_flush_data(context);
  bool good = true;
  for (int more = 1; more;) {
    const de265_error error = de265_decode(context, &more);
    if (error != DE265_OK) {
      good = good && error == DE265_ERROR_WAITING_FOR_INPUT_DATA;
      break;
    }
    while (const de265_image* image = de265_get_next_picture(context)) {
      pictures.emplace_back();
      for (int p = 0; p < 3; p++) {
        int stride = 0;
        const uint8_t* data = de265_get_image_plane(image, p, &stride);
        if (de265_get_image_width(image, p) != shape.width >> (p > 0) || de265_get_image_height(image, p) != shape.height >> (p > 0)) return {};
        append_plane(pictures.back(), data, stride, shape.width >> (p > 0), shape.height >> (p > 0));
      }
    }
  }
  good = good && de265_get_warning(context) == DE265_OK;
  de265_free_decoder(context);
  if (!good) pictures.clear();
  return pictures;
}

bool shows(HevcShape shape, const Planes& pictures, const std::vector<int8_t>& values) {
  if (pictures.size() != shape.pictures) return false;
  const size_t luma = size_t{shape.width} * shape.height;
  for (const auto& picture : pictures) {
    if (picture.size() != luma * 3 / 2) return false;
  }
  for (size_t i = 0; i < values.size(); i++) {
    const HevcSample at = hevc_locate(shape, i);
    const size_t width = at.plane == 0 ? shape.width : shape.width / 2u;
    const size_t start = at.plane == 0 ? 0 : at.plane == 1 ? luma : luma * 5 / 4;
    if (int{pictures[at.picture][start + at.y * width + at.x]} != values[i] + 128) return false;
  }
  return true;
}

struct Totals {
  int passed = 0;
  int failed = 0;
  int unsupported = 0;
  uint64_t values = 0;
  uint64_t bytes = 0;
};

void check(HevcShape shape, const std::vector<int8_t>& values, const char* what, Totals* totals) {
  std::vector<uint8_t> stream(hevc_encode_bound(shape));
  std::vector<uint8_t> scalar(stream.size());
  size_t size = 0;
  size_t scalar_size = 0;
  const Status status = hevc_encode(shape, {values.data(), values.size()}, {stream.data(), stream.size()}, &size, nullptr);
  cpu_force_scalar(true);
  const Status scalar_status = hevc_encode(shape, {values.data(), values.size()}, {scalar.data(), scalar.size()}, &scalar_size, nullptr);
  bool good = status == scalar_status;
  if (status == Status::kUnsupported && good) {
    totals->unsupported++;
    cpu_force_scalar(false);
    return;
  }
  stream.resize(size);
  scalar.resize(scalar_size);
  const bool same = good && status == Status::kOk && stream == scalar;
  std::vector<int8_t> back(values.size(), 99);
  const bool scalar_reader = hevc_decode(shape, {stream.data(), size}, {back.data(), back.size()}, nullptr) == Status::kOk && back == values;
  cpu_force_scalar(false);
  back.assign(values.size(), 99);
  const bool fast_reader = hevc_decode(shape, {stream.data(), size}, {back.data(), back.size()}, nullptr) == Status::kOk && back == values;
  const bool avcodec = shows(shape, with_libavcodec(shape, stream), values);
  const bool de265 = shows(shape, with_libde265(shape, stream), values);
  good = same && scalar_reader && fast_reader && avcodec && de265;
  if (!good) {
    std::printf("FAILED %ux%u x %u %s: status %d, scalar bytes equal %d, readers %d %d, libavcodec %d, libde265 %d\n", shape.width, shape.height,
                shape.pictures, what, int(status), same, scalar_reader, fast_reader, avcodec, de265);
  }
  (good ? totals->passed : totals->failed)++;
  totals->values += values.size();
  totals->bytes += size;
}

}  // namespace

int main(int argc, char** argv) {
  av_log_set_level(AV_LOG_QUIET);
  Totals totals;
  const int streams = argc > 1 ? std::atoi(argv[1]) : 500;
  for (int n = 0; totals.passed + totals.failed < streams; n++) {
    Random random(n + 1);
    const int kind = n % kKinds;
    HevcShape shape = {uint16_t(256 + 64 * random.below(4)), uint16_t(256 + 64 * random.below(4)), uint16_t(1 + random.below(4))};
    if (n % 100 == 50) shape = {uint16_t(256 + 64 * random.below(61)), 256, 2};
    if (n % 100 == 60) shape = {256, uint16_t(256 + 64 * random.below(61)), 2};
    if (n == 77) shape = {4096, 2176, 1};
    if (n == 133) shape = {4096, 4096, 1};
    if (n == 222) shape = {256, 256, 300};  // the picture order count wraps
    const double sigma = std::exp(std::log(0.02) + random.uniform() * std::log(40 / 0.02));
    check(shape, make_values(hevc_values(shape), kind, sigma, n + 1), kind_name(kind), &totals);
  }
  std::printf("random: %d passed, %d failed, %d beyond 8 bits a value, %.1f M values, %.3f bits a value\n", totals.passed, totals.failed,
              totals.unsupported, double(totals.values) / 1e6, 8.0 * double(totals.bytes) / double(totals.values));
  for (int i = 2; i < argc; i++) {
    // A file is cut to pictures of 256x256; what is left over is filled with zeros.
    std::vector<int8_t> values = read_values(argv[i]);
    const size_t pictures = (values.size() + 98303) / 98304;
    if (pictures == 0 || pictures > 32767) {
      std::printf("FAILED to read %s\n", argv[i]);
      totals.failed++;
      continue;
    }
    values.resize(pictures * 98304);
    check({256, 256, uint16_t(pictures)}, values, argv[i], &totals);
  }
  std::printf("%d passed, %d failed\n", totals.passed, totals.failed);
  return totals.failed != 0;
}
