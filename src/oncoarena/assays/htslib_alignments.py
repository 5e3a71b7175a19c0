"""CRAM, decoded by htslib (through pysam) and handed on as uncompressed BAM to the kernel that counts BAM."""

import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

import numpy as np
import pysam

from oncoarena.assays.cram_ranges import END_MARKERS
from oncoarena.assays.feeding import file_descriptor
from oncoarena.errors import BadObject, InputError
from oncoarena.kernels.bam_walk import read_header, walk_bam
from oncoarena.kernels.bin_layout import BinLayout
from oncoarena.kernels.fragment_tally import FragmentFilters, FragmentTally, empty_tally, merge

# About 20 MB of short reads as BAM.
BATCH_RECORDS = 1 << 17

# Fields that are decoded: all but names, qualities and tags (sam_fields of htslib's hts.h).
_REQUIRED_FIELDS = b"required_fields=0x3fe"
MAX_MARKER_BYTES = max(map(len, END_MARKERS.values()))


def tally_cram(
    stream: BinaryIO,
    source: str,
    layout: BinLayout,
    filters: FragmentFilters,
    map_references: Callable[[Mapping[str, int]], np.ndarray],
    reference: str | None = None,
) -> tuple[FragmentTally, Mapping[str, int]]:
    """Count the records of a CRAM object that is read forward once.

    Parameters: ``map_references`` is called with the lengths by name of the file's references and returns the
    layout's chromosome of each, (n_references,) int64, -1 for none; ``reference`` path of a local FASTA.
    Returns the tally and the lengths of the references by name.
    Raises BadObject where the object is damaged, cut short or not sorted; InputError where a reference is missing.
    """
    if reference is not None and "://" in reference:
        raise InputError(
            f"{source}: CRAM needs a local reference, found {reference}; copy it to the machine."
        )
    watched = _WatchedStream(stream)
    try:
        with (
            _quiet(),
            file_descriptor(watched) as descriptor,
            _opened(descriptor, source, reference) as alignments,
        ):
            lengths = dict(zip(alignments.references, alignments.lengths, strict=True))
            reference_to_layout = map_references(lengths)
            tally = empty_tally(layout, filters)
            records = _checked(alignments, source, reference)
            for bam in _batches(records, alignments.header):
                try:
                    header = read_header(bam, "as BAM")
                    batch = walk_bam(bam, "as BAM", header, layout, reference_to_layout, filters)
                    tally = merge(tally, batch)
                except BadObject as error:
                    # Its offset is one in the decoded batch, not in the object.
                    raise BadObject(f"{source}: {error}") from None
    except BadObject:
        if watched.failure is not None:
            raise watched.failure from None
        raise
    if not watched.take_rest().endswith(tuple(END_MARKERS.values())):
        raise BadObject(
            f"{source}: the file ends at byte {watched.n_bytes} without its end-of-file marker: it was cut short; copy "
            "it again",
            watched.n_bytes,
        )
    return tally, lengths


class _WatchedStream:
    """A stream that remembers its last bytes, since htslib cannot look ahead in a pipe, and why it failed.

    To htslib a stream that fails looks like a file that was cut short.
    """

    def __init__(self, stream: BinaryIO):
        self.stream, self.tail, self.n_bytes = stream, b"", 0
        self.failure: BaseException | None = None

    def read(self, n_bytes: int) -> bytes:
        """Read up to ``n_bytes``."""
        try:
            data = self.stream.read(n_bytes)
        except BaseException as error:
            self.failure = error
            raise
        self.n_bytes += len(data)
        self.tail = (self.tail + data[-MAX_MARKER_BYTES:])[-MAX_MARKER_BYTES:]
        return data

    def take_rest(self) -> bytes:
        """Read what is left and return the last bytes."""
        while self.read(1 << 20):
            pass
        return self.tail


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep htslib from writing to standard error: what is wrong is raised."""
    before = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(before)


@contextlib.contextmanager
def _opened(descriptor: int, source: str, reference: str | None) -> Iterator[pysam.AlignmentFile]:
    if reference is not None and "://" in reference:
        raise InputError(
            f"{source}: CRAM needs a local reference, found {reference}; copy it to the machine."
        )
    try:
        alignments = pysam.AlignmentFile(
            descriptor, "r", check_sq=False, reference_filename=reference, format_options=[_REQUIRED_FIELDS]
        )
    except (OSError, ValueError) as error:
        raise BadObject(f"{source}: the header cannot be read ({error}); copy the file again", 0) from None
    with alignments:
        yield alignments


def _checked(
    alignments: pysam.AlignmentFile, source: str, reference: str | None
) -> Iterator[pysam.AlignedSegment]:
    """Yield all records. Raises BadObject where htslib cannot decode one."""
    n_records = 0
    try:
        for record in alignments:
            n_records += 1
            yield record
    except (OSError, ValueError) as error:
        hint = "" if reference else "; a CRAM file may need the FASTA it was written with (reference)"
        raise BadObject(
            f"{source}: record {n_records + 1} cannot be read ({error}): the file is damaged or was cut short; copy it "
            f"again{hint}"
        ) from None


def _batches(records: Iterator[pysam.AlignedSegment], header: pysam.AlignmentHeader) -> Iterator[BinaryIO]:
    """Yield the records as streams of uncompressed BAM, each of up to ``BATCH_RECORDS`` and held in memory.

    Not a pipe: htslib does not let go of Python's lock when it closes a file, so its reader might never get it.
    """
    n_written = BATCH_RECORDS
    while n_written == BATCH_RECORDS:
        n_written = 0
        with _memory_file() as file:
            with pysam.AlignmentFile(file, "wbu", header=header) as bam:
                for record in itertools.islice(records, BATCH_RECORDS):
                    bam.write(record)
                    n_written += 1
            file.seek(0)
            yield file


def _memory_file() -> BinaryIO:
    """Open a file that htslib can write to: in memory where the system offers that, else below the temporary folder."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("records"), "w+b")
    return tempfile.TemporaryFile()
