"""GC content of bins and its effect on coverage within one sample.

The GC content of a bin is that of the genome's sequence, or, without a FASTA, of the bases of the sample's own reads.
"""

import functools
import gzip
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np

from oncoarena import store
from oncoarena.errors import InputError
from oncoarena.genomes import canonical_chromosome, genome

CHUNK_BYTES = 8 << 20
# A bin is judged only where at least this share of it is counted at all.
MIN_USABLE = 0.5
# Strata of 1 % of GC content, joined to neighbours until they hold this many bins.
MIN_STRATUM_BINS = 30
_GC, _KNOWN, _NEWLINE, _NAME = 1, 2, ord("\n"), ord(">")


def _base_classes() -> np.ndarray:
    classes = np.zeros(256, dtype=np.uint8)
    for letters, value in (("ATat", _KNOWN), ("CGcg", _KNOWN | _GC)):
        classes[[ord(letter) for letter in letters]] = value
    return classes


_CLASSES = _base_classes()


@functools.lru_cache(maxsize=4)
def reference_gc(uri: str, genome_name: str, bin_bp: int) -> np.ndarray:
    """Return the GC content of a genome's bins from a FASTA, see ``count_gc``; a process reads a file once."""
    with store.open_input(uri) as stream:
        shares = count_gc(stream, uri, genome_name, genome(genome_name).sizes, bin_bp)
    shares.setflags(write=False)
    return shares


def count_gc(
    stream: BinaryIO, source: str, genome_name: str, sizes: Mapping[str, int], bin_bp: int
) -> np.ndarray:
    """Return the GC content of bins from the sequences of chromosomes.

    Parameters: ``stream`` a FASTA file, plain or gzipped; ``sizes`` bp by chromosome: each must be there in its
    length, with or without "chr", other sequences are ignored; ``bin_bp`` width of the bins.
    Returns (n_bins,) float64, C and G among the A, C, G and T of the bins of all chromosomes in the order of
    ``sizes``; NaN where there are none. Raises InputError.
    """
    found: dict[str, np.ndarray] = {}
    for name, pieces in _sequences(stream, source):
        chromosome = canonical_chromosome(name)
        if chromosome not in sizes:
            for _ in pieces:
                pass
        elif chromosome in found:
            raise InputError(f"{source}: sequence {name!r} is there twice; keep one of each chromosome.")
        else:
            found[chromosome] = _count_bins(pieces, source, name, sizes[chromosome], genome_name, bin_bp)
    missing = [name for name in sizes if name not in found]
    if missing:
        raise InputError(
            f"{source}: no sequence of {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}; expected the "
            f"FASTA of {genome_name}, with all of its chromosomes. Correct reference."
        )
    counts = np.concatenate([found[name] for name in sizes], axis=1)
    return np.divide(counts[0], counts[1], out=np.full(counts.shape[1], np.nan), where=counts[1] > 0)


def _count_bins(
    pieces: Iterator[np.ndarray], source: str, name: str, size: int, genome_name: str, bin_bp: int
) -> np.ndarray:
    """Return (2, n_bins) int64: C and G, and all known bases."""
    n_bins = -(-size // bin_bp)
    counts = np.zeros((2, n_bins), np.int64)
    position = 0
    for piece in pieces:
        if position + len(piece) <= size:
            classes = _CLASSES[piece]
            edges = np.arange(position // bin_bp, (position + len(piece) - 1) // bin_bp + 1)
            starts = np.maximum(edges * bin_bp - position, 0)
            counts[0, edges] += np.add.reduceat(classes & _GC, starts, dtype=np.int64)
            counts[1, edges] += np.add.reduceat(classes >> 1, starts, dtype=np.int64)
        position += len(piece)
    if position != size:
        raise InputError(
            f"{source}: sequence {name!r} has {position} bp, but {canonical_chromosome(name)} of {genome_name} has "
            f"{size}; correct genome or reference."
        )
    return counts


def _sequences(stream: BinaryIO, source: str) -> Iterator[tuple[str, Iterator[np.ndarray]]]:
    """Yield the name of each sequence and its bases in pieces, which must be taken before the next name."""
    chunks = _Peekable(_plain(stream, source))
    head = chunks.take_line()
    if not head.startswith(b">"):
        raise InputError(
            f"{source}: begins with {head[:20]!r}; expected a FASTA file, which begins with '>'."
        )
    while head.startswith(b">"):
        words = head[1:].split()
        yield (words[0].decode(errors="replace") if words else ""), chunks.bases()
        head = chunks.take_line()


class _Peekable:
    """Chunks of a FASTA text, taken by line or up to the next name."""

    def __init__(self, chunks: Iterator[bytes]):
        self.chunks = chunks
        self.rest = b""

    def take_line(self) -> bytes:
        """Return the next line; what is more than a chunk of it is dropped."""
        while b"\n" not in self.rest and len(self.rest) < CHUNK_BYTES:
            more = next(self.chunks, b"")
            if not more:
                break
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return line

    def bases(self) -> Iterator[np.ndarray]:
        """Yield the bases up to the next name, without line ends."""
        while True:
            self.rest = self.rest or next(self.chunks, b"")
            if not self.rest:
                return
            end = self.rest.find(b">")
            part = self.rest if end < 0 else self.rest[:end]
            letters = np.frombuffer(part.translate(None, b"\r\n \t"), np.uint8)
            self.rest = b"" if end < 0 else self.rest[end:]
            if len(letters):
                yield letters
            if end >= 0:
                return


def _plain(stream: BinaryIO, source: str) -> Iterator[bytes]:
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    text = gzip.GzipFile(fileobj=stream) if packed else stream
    try:
        while data := text.read(CHUNK_BYTES):
            yield data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{source}: the gzip stream is damaged ({error}); copy the file again.") from None


def correct(rate: np.ndarray, gc: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Divide coverage by what the sample's bins of the same GC content have, then by its typical value.

    Bins are put into strata of 1 % of GC content; a stratum's coverage is the mean of its middle half, which
    copy-number changes hardly move and which is not as coarse as a median where counts are small. Between the
    middles of strata the expectation is linear.
    Parameters: ``rate`` (n_bins,) fragments per usable bp, NaN where not known; ``gc`` (n_bins,) 0 to 1 or NaN;
    ``fitted`` (n_bins,) bool, the bins from which the expectation is taken.
    Returns (n_bins,) float64, 1 for a typical bin; NaN where ``rate``, ``gc`` or the expectation is not known.
    Source: strata of GC content as in Benjamini and Speed 2012, doi:10.1093/nar/gks001.
    """
    fitted = fitted & np.isfinite(rate) & np.isfinite(gc)
    corrected = np.full(len(rate), np.nan)
    if not fitted.any():
        return corrected
    percent = np.floor(gc[fitted] * 100).astype(np.int64)
    levels, expectations = [], []
    for members in _strata(percent):
        levels.append(gc[fitted][members].mean())
        expectations.append(middle_mean(rate[fitted][members]))
    known = np.isfinite(rate) & np.isfinite(gc)
    expected = np.interp(gc[known], levels, expectations)
    corrected[known] = np.divide(
        rate[known], expected, out=np.full(len(expected), np.nan), where=expected > 0
    )
    typical = middle_mean(corrected[fitted & np.isfinite(corrected)])
    return corrected / typical if typical > 0 else np.full(len(rate), np.nan)


def _strata(percent: np.ndarray) -> list[np.ndarray]:
    """Return positions by stratum in the order of GC content, each of enough bins where there are so many."""
    order = np.argsort(percent, kind="stable")
    edges = np.flatnonzero(np.diff(percent[order], prepend=-1))
    cuts = [0]
    for edge in edges[1:].tolist():
        if edge - cuts[-1] >= MIN_STRATUM_BINS:
            cuts.append(edge)
    if len(cuts) > 1 and len(order) - cuts[-1] < MIN_STRATUM_BINS:
        cuts.pop()
    return np.split(order, cuts[1:])


def middle_mean(values: np.ndarray) -> float:
    """Return the mean of the middle half of values (n,), that is without the lowest and highest quarter."""
    if not len(values):
        return float("nan")
    cut = len(values) // 4
    return float(np.sort(values)[cut : len(values) - cut].mean())


def slope(rate: np.ndarray, gc: np.ndarray, fitted: np.ndarray) -> float:
    """Return the least-squares slope of coverage, as a ratio to its typical value, per unit of GC content."""
    fitted = fitted & np.isfinite(rate) & np.isfinite(gc)
    typical = middle_mean(rate[fitted])
    if not typical > 0:
        return float("nan")
    x, y = gc[fitted] - gc[fitted].mean(), rate[fitted] / typical
    spread = float(x @ x)
    return float(x @ y) / spread if spread > 0 else float("nan")
