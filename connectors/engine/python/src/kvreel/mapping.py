"""Which file a part of this process's memory is mapped from, as Linux tells it."""

import os
from dataclasses import dataclass

SHARED_MEMORY = "/dev/shm/"


@dataclass(frozen=True)
class Mapping:
    start: int
    """Address of the first byte that is mapped."""
    offset: int
    """Of that byte in the file."""
    inode: int
    path: str

    @property
    def shared_bytes(self) -> int:
        """Size of the file if it is shared memory that others can still open by its path; else 0."""
        if not self.path.startswith(SHARED_MEMORY):
            return 0
        try:
            status = os.stat(self.path)
        except OSError:
            return 0
        return status.st_size if status.st_ino == self.inode else 0


def find_mapping(address: int) -> Mapping | None:
    """The mapping that an address lies in; None for none, for memory of no file, and where there is no /proc."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            for line in maps:
                # 7f0c5c000000-7f0c7c000000 rw-s 00000000 00:1b 42    /dev/shm/lmcache_l1_pool_a
                span, _, offset, _, inode, *path = line.rstrip("\n").split(maxsplit=5)
                start, end = (int(part, 16) for part in span.split("-"))
                if start <= address < end:
                    return Mapping(start, int(offset, 16), int(inode), path[0]) if path else None
    except OSError:
        return None
    return None
