#include "receive_threshold.h"

#include <sys/socket.h>

#include <cerrno>

namespace kvreel {

int set_receive_threshold(int socket, int bytes) noexcept { return setsockopt(socket, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes) == 0 ? 0 : errno; }

}  // namespace kvreel
