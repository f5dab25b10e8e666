#include "hevc_picture.h"
namespace kvreel {
bool hevc_read_pictures_avx2(HevcShape s, const HevcPictureData* p, unsigned n) noexcept { for (unsigned i=0;i<n;i++) if(!hevc_read_picture(s,p[i])) return false; return true; }
}
