"""Objects of variants as chunks of text rows behind a header: VCF or MAF, gzipped or not, and BCF through htslib."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import BinaryIO

from oncoarena.assays.byte_lines import LineChunk, line_chunks
from oncoarena.assays.feeding import file_descriptor
from oncoarena.errors import BadObject, InputError

# The empty block that ends a BGZF file: SAM specification v1, section 4.1.2.
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
HEAD_BYTES = 1 << 16
MAX_HEADER_BYTES = 64 << 20
RECORDS_A_CHUNK = 20_000


@dataclass(eq=False)
class VariantText:
    """``kind`` is "vcf" or "maf"; ``header`` the lines before the names of columns, ``columns`` those names (of VCF
    without "#"); ``header_line`` the number of their line; ``chunks`` the rows behind."""

    kind: str
    header: bytes
    columns: list[str]
    header_line: int
    chunks: Iterator[LineChunk]


class _Watched:
    """A stream of which the first bytes were read before; it remembers its last ones."""

    def __init__(self, head: bytes, stream: BinaryIO):
        self._head, self._stream = head, stream
        self.tail = b""
        self.n_read = 0

    def read(self, n_bytes: int) -> bytes:
        """Return up to ``n_bytes``, nothing at the end."""
        if self._head:
            data, self._head = self._head[:n_bytes], self._head[n_bytes:]
        else:
            data = self._stream.read(n_bytes)
        self.tail = (self.tail + data[-len(BGZF_END) :])[-len(BGZF_END) :]
        self.n_read += len(data)
        return data


def read_variants(stream: BinaryIO, source: str) -> VariantText:
    """Recognise an object of variants by its content and read its header.

    Raises InputError where it is neither VCF, BCF nor MAF, BadObject where it is damaged (now, or while the chunks
    are read).
    """
    head = stream.read(HEAD_BYTES)
    watched = _Watched(head, stream)
    if head.startswith(b"BCF"):
        raise InputError(
            f"{source}: this is BCF without compression, in which damage cannot be seen; run `bcftools view -Ob`."
        )
    is_bcf = head.startswith(b"\x1f\x8b") and _first_inflated(head).startswith(b"BCF")
    chunks = _bcf_chunks(watched, source) if is_bcf else line_chunks(watched, source)
    return _behind_header(chunks, source)


def _first_inflated(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 8)
    except zlib.error:
        return b""


def _behind_header(chunks: Iterator[LineChunk], source: str) -> VariantText:
    """Split the header from the rows."""
    header: list[bytes] = []
    n_header = 0
    for chunk in chunks:
        text, at = chunk.text, 0
        while at < len(text) and (text.startswith(b"#", at) or text[at : at + 2].strip() == b""):
            end = text.index(b"\n", at) + 1
            if text.startswith(b"#CHROM", at):
                header.append(text[:at])
                return _found("vcf", header, text[at:end], chunk, at, chunks, source)
            at = end
        header.append(text[:at])
        n_header += at
        if at < len(text):
            end = text.index(b"\n", at) + 1
            if header[0].startswith(b"##fileformat=VCF"):
                number, offset = chunk.place(at)
                raise BadObject(
                    f"{source}: line {number}: the header of a VCF ends without the line #CHROM, which names the "
                    "columns; write the file again",
                    offset=offset,
                )
            return _found("maf", header, text[at:end], chunk, at, chunks, source)
        if n_header > MAX_HEADER_BYTES:
            raise BadObject(
                f"{source}: the header is longer than {MAX_HEADER_BYTES >> 20} MB; is this the right file?"
            )
    raise BadObject(
        f"{source}: there is no line that names the columns (#CHROM of VCF, Hugo_Symbol of MAF); copy it again"
    )


def _found(
    kind: str,
    header: list[bytes],
    line: bytes,
    chunk: LineChunk,
    at: int,
    chunks: Iterator[LineChunk],
    source: str,
) -> VariantText:
    number, offset = chunk.place(at)
    columns = line.decode(errors="replace").removeprefix("#").rstrip("\r\n").split("\t")
    if kind == "maf" and not {"Chromosome", "Reference_Allele"} <= set(columns):
        raise InputError(
            f"{source}: line {number}: found {line[:60].decode(errors='replace')!r}; expected the header of a VCF "
            "(##fileformat=VCF, #CHROM ...) or of a MAF (Hugo_Symbol, Chromosome, ..., separated by tabs). Is this the "
            "right file?"
        )
    end = at + len(line)
    rest = chunk.text[end:]
    behind = [LineChunk(rest, number + 1, None if offset is None else offset + len(line))] if rest else []
    return VariantText(kind, b"".join(header), columns, number, chain(behind, chunks))


def _bcf_chunks(watched: _Watched, source: str) -> Iterator[LineChunk]:
    """Read BCF as the text it stands for; htslib verifies the checksum of every block."""
    import pysam

    verbosity = pysam.set_verbosity(0)
    problem: Exception | None = None
    try:
        with file_descriptor(watched) as descriptor:
            try:
                with pysam.VariantFile(descriptor) as records:
                    text = str(records.header).encode()
                    yield LineChunk(text, 1, None)
                    number = 1 + text.count(b"\n")
                    while lines := [str(record) for record in islice(records, RECORDS_A_CHUNK)]:
                        yield LineChunk("".join(lines).encode(), number, None)
                        number += len(lines)
            # TypeError: pysam cannot name a file descriptor in the error that it wants to raise.
            except (OSError, ValueError, TypeError) as error:
                problem = error
    finally:
        pysam.set_verbosity(verbosity)
    # Told only now, since an error of the stream, which is raised before, may be behind it.
    if problem is not None:
        raise BadObject(
            f"{source}: htslib cannot read it as BCF ({problem}) after {watched.n_read} bytes; copy it again",
            offset=watched.n_read,
        ) from problem
    if watched.tail != BGZF_END:
        raise BadObject(
            f"{source}: it ends at byte {watched.n_read} without the empty block that ends a BGZF file: it was cut "
            "short; copy it again",
            offset=watched.n_read,
        )
