"""A client that holds a segment until it is killed: hold_segment.py SOCKET. Prints the segment's path."""

import sys
import threading

from kvreel import Client

segment = Client(sys.argv[1]).segments.create(1 << 20)
print(segment.path if segment else "none", flush=True)
threading.Event().wait()
