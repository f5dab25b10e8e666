#include "receive_threshold.h"

#include <sys/socket.h>

namespace kvreel {

bool set_receive_threshold(int socket, int bytes) noexcept { return setsockopt(socket, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes) == 0; }

}  // namespace kvreel
