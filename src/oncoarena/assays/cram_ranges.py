"""Parts of a CRAM file that can be read on their own, from its index.

A CRAM file is a definition, a container with its header, containers of records, and a marker of its end; the header
with any run of containers and the marker is a CRAM file again. Formats: CRAM specification v3, sections 6 to 9, and 12
(CRAI; https://samtools.github.io/hts-specs/CRAMv3.pdf).
"""

from typing import BinaryIO

import numpy as np

from oncoarena.errors import BadObject
from oncoarena.kernels.bam_index import MAKE_AGAIN, Part

# What ends a CRAM file of version 3 and 2.1, by the major version.
END_MARKERS = {
    3: bytes.fromhex("0f000000ffffffff0fe0454f4600000000010005bdd94f0001000606010001000100ee63014b"),
    2: bytes.fromhex("0b000000ffffffff0fe0454f460000000001000001000606010001000100"),
}
MAJOR_VERSION_AT = 4
_N_FIELDS, _CONTAINER_FIELD = 6, 3


def is_crai(content: bytes) -> bool:
    """Tell an inflated index of a CRAM file: its first line is six whole numbers."""
    fields = content.partition(b"\n")[0].split(b"\t")
    return len(fields) == _N_FIELDS and all(field.removeprefix(b"-").isdigit() for field in fields)


def parts_from_crai(content: bytes, n_bytes: int, source: str, part_bytes: int) -> list[Part]:
    """Cut a CRAM file into parts of about equal size, at containers that its index names.

    Parameters: ``content`` of the index, inflated; ``n_bytes`` size of the CRAM file; ``part_bytes`` that of a part.
    Returns at least one part, in order, without gaps. Raises BadObject for one that is damaged, or of another file.
    """
    try:
        rows = [[int(field) for field in line.split(b"\t")] for line in content.splitlines()]
        offsets = np.unique(np.array([row[_CONTAINER_FIELD] for row in rows], dtype=np.int64))
        is_sound = all(len(row) == _N_FIELDS for row in rows) and offsets[0] > 0
    except (ValueError, IndexError, OverflowError):
        is_sound = False
    if not is_sound:
        raise BadObject(f"the index of {source} is damaged; {MAKE_AGAIN}")
    if offsets[-1] >= n_bytes:
        raise BadObject(
            f"the index of {source} names byte {offsets[-1]}, but the file has {n_bytes}: it is the index of another "
            f"file, or the file is cut short; copy the file again or {MAKE_AGAIN}"
        )
    n_parts = max(1, round(n_bytes / part_bytes))
    found = np.searchsorted(offsets, np.arange(1, n_parts) * n_bytes // n_parts)
    cuts = [int(offset) for offset in offsets[np.unique(found[found < len(offsets)])] if offset > offsets[0]]
    return [
        Part(first, end, is_last=end == n_bytes, header_bytes=int(offsets[0]))
        for first, end in zip([0, *cuts], [*cuts, n_bytes], strict=True)
    ]


class CramRange:
    """A part of a CRAM file as a stream that is a CRAM file: the header, the containers of the part, the marker."""

    def __init__(self, stream: BinaryIO, part: Part, source: str):
        stream.seek(0)
        version = stream.read(MAJOR_VERSION_AT + 1)[MAJOR_VERSION_AT]
        stream.seek(0)
        if version not in END_MARKERS:
            raise BadObject(
                f"{source}: version {version} of CRAM is not known; convert it (samtools view -C)", 0
            )
        self._stream, self._part = stream, part
        self._at = 0
        # The last part has the marker of the file itself.
        self._rest = b"" if part.is_last else END_MARKERS[version]

    def read(self, n_bytes: int) -> bytes:
        """Read up to ``n_bytes``; nothing at the end."""
        part = self._part
        if self._at == part.header_bytes and part.first_byte > self._at:
            self._at = part.first_byte
            self._stream.seek(self._at)
        end = part.header_bytes if self._at < part.header_bytes else part.end_byte
        data = self._stream.read(min(n_bytes, end - self._at))
        self._at += len(data)
        if not data and self._at >= part.end_byte:
            data, self._rest = self._rest[:n_bytes], self._rest[n_bytes:]
        return data
