"""Remove symbol tables and section headers of shared libraries in a folder (ELF, 64-bit, little-endian), as sstrip.

The dynamic linker reads segments only. The base image has no `strip`, and LIEF needs more than ten minutes for 790 MB.
"""

import struct
import sys
from pathlib import Path

for library in Path(sys.argv[1]).rglob("*.so*"):
    with library.open("r+b") as file:
        header = bytearray(file.read(64))
        (start,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        file.seek(start)
        segments = [file.read(size) for _ in range(count)]
        # A segment's offset is at byte 8, its size in the file at byte 32.
        end = max(
            struct.unpack_from("<Q", segment, 8)[0] + struct.unpack_from("<Q", segment, 32)[0] for segment in segments
        )
        struct.pack_into("<Q", header, 40, 0)
        struct.pack_into("<HHH", header, 58, 0, 0, 0)
        file.seek(0)
        file.write(header)
        file.truncate(max(end, start + size * count))
