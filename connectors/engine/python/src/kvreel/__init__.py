"""Engine side of kvreel: a client of the daemon that `kvreel serve` starts, and plugins for engines on top of it.

Importing this package needs the standard library only. The plugins import their engine: `kvreel.lmcache_l2`, `kvreel.lmcache_remote`.
"""

from .client import Client, KeyPage
from .errors import KvreelError
from .space import DTYPE_BYTES, Geometry, Rank, Rope, Space

__version__ = "0.1.0"

__all__ = ["DTYPE_BYTES", "Client", "Geometry", "KeyPage", "KvreelError", "Rank", "Rope", "Space"]
