// How many bytes must have come over a socket before the one who waits for them is woken (SO_RCVLOWAT). A value of some MiB comes in dozens of
// pieces, and each wakes the event loop for a read of its own, which costs more than the copy of so few bytes.
#pragma once

namespace kvreel {

// Whether the system took it. The end of the connection, an error, and a system that would take no more wake the reader too.
bool set_receive_threshold(int socket, int bytes) noexcept;

}  // namespace kvreel
