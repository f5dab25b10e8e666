"""Which file a part of this process's memory is mapped from, as Linux tells it."""

from dataclasses import dataclass

SHARED_MEMORY = "/dev/shm/"


@dataclass(frozen=True)
class Mapping:
    start: int
    """Address of the first byte that is mapped."""
    size: int
    offset: int
    """Of that byte in the file."""
    path: str

    @property
    def is_shared_memory(self) -> bool:
        return self.path.startswith(SHARED_MEMORY) and not self.path.endswith(" (deleted)")


def find_mapping(address: int) -> Mapping | None:
    """The mapping that an address lies in; None for none, for memory of no file, and where there is no /proc."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            for line in maps:
                # 7f0c5c000000-7f0c7c000000 rw-s 00000000 00:1b 42    /dev/shm/lmcache_l1_pool_a
                span, _, offset, _, _, *path = line.rstrip("\n").split(maxsplit=5)
                start, end = (int(part, 16) for part in span.split("-"))
                if start <= address < end:
                    return Mapping(start, end - start, int(offset, 16), path[0]) if path else None
    except OSError:
        return None
    return None
