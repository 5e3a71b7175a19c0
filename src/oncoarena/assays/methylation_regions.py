"""Regions in which methylation is averaged, from a BED file."""

from typing import Any, BinaryIO

import pandas as pd

from oncoarena.assays.byte_lines import line_chunks
from oncoarena.errors import InputError
from oncoarena.genomes import Genome, canonical_chromosome, chromosome_names


def read_regions(stream: BinaryIO, options: Any, build: Genome) -> pd.DataFrame:
    """Read the regions of a BED file on the chromosomes asked for, in its order (0-based, half-open).

    Source: https://genome.ucsc.edu/FAQ/FAQformat.html#format1.
    """
    source = options.regions
    wanted = chromosome_names(options.chromosomes)
    found: dict[tuple[str, int, int], int] = {}
    for chunk in line_chunks(stream, source, may_lack_end=True):
        for number, line in enumerate(chunk.text.decode(errors="replace").split("\n"), chunk.number):
            line = line.rstrip("\r")
            if not line.strip() or line.startswith(("#", "track", "browser")):
                continue
            fields = line.split("\t") if "\t" in line else line.split()
            if len(fields) < 3 or not (fields[1].isdecimal() and fields[2].isdecimal()):
                raise InputError(
                    f"{source}: line {number}: {line[:80]!r}: expected chrom, start, end of BED."
                )
            chrom, start, end = canonical_chromosome(fields[0]), int(fields[1]), int(fields[2])
            if chrom not in wanted:
                continue
            if not start < end <= build.sizes[chrom]:
                raise InputError(
                    f"{source}: line {number}: {line[:80]!r}: expected start < end <= {build.sizes[chrom]}, the "
                    f"length of {chrom} of {build.name}. Are these regions of this genome?"
                )
            if found.setdefault((chrom, start, end), number) != number:
                raise InputError(
                    f"{source}: lines {found[chrom, start, end]} and {number} are the same region. Keep one of them."
                )
    if not found:
        raise InputError(
            f"{source}: no region on the chromosomes of {build.name} asked for ({options.chromosomes})."
        )
    return pd.DataFrame(list(found), columns=["chrom", "start", "end"])
