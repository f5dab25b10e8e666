#include "hevc_picture.h"
namespace kvreel {
void hevc_write_pictures_avx2(HevcShape s, HevcPictureValues* p, unsigned n, uint8_t*) noexcept { for (unsigned i=0;i<n;i++) hevc_write_picture(s,p+i); }
}
