"""Rows of VCF and MAF text to alleles in their shortest form.

A substitution of one base becomes one number (see ``pack_snv``), so that sorting numbers sorts samples, then
chromosomes, then positions; substitutions of two bases become two of them; all else goes to a second table.
"""

import numba
import numpy as np

from oncoarena.kernels.text_fields import (
    SOUND,
    decimal,
    key_place,
    list_part,
    same_text,
    subfield,
    whole_number,
)
from oncoarena.kernels.variant_fields import (
    BASE,
    LAST_OF_MAF,
    LAST_OF_VCF,
    carries,
    chromosome_number,
    is_bases,
    is_symbolic,
    position_number,
)

CHROM_BITS, POS_BITS = 5, 28
SAMPLE_SHIFT = CHROM_BITS + POS_BITS + 4
# A row and the number of an allele in it, in one number; -1 minus it marks the second base of a doublet.
ALLELE_BITS = 12
MAX_ALLELE = (1 << ALLELE_BITS) - 1
MAX_SAMPLES = 1 << (63 - SAMPLE_SHIFT)
# What is told of a row that cannot be used, after those of text_fields; SAME is of an allele that is none.
POSITION, BEYOND, REF, ALT, GENOTYPE, FILTER, FULL, SAME = range(3, 11)
# Columns of the counts of alleles (or rows) that are not used, by sample.
FILTERED, NOT_CARRIED, OUTSIDE, UNUSABLE = range(4)
# Columns of the table of alleles that are no substitution of one or two bases.
SAMPLE, CHROM, START, REF_START, REF_LENGTH, ALT_START, ALT_LENGTH, ROW = range(8)


@numba.njit(cache=True, nogil=True)
def pack_snv(sample, chrom, pos, ref, alt):
    """Pack a substitution of one base: sample (26 bits), chromosome (5), position (28), bases (2 and 2)."""
    return (
        (np.uint64(sample) << np.uint64(SAMPLE_SHIFT))
        | (np.uint64(chrom) << np.uint64(POS_BITS + 4))
        | (np.uint64(pos) << np.uint64(4))
        | (np.uint64(ref) << np.uint64(2))
        | np.uint64(alt)
    )


@numba.njit(cache=True, nogil=True)
def add_allele(
    text, sample, chrom, pos, ref, ref_end, alt, alt_end, row, sizes, snvs, snv_rows, others, filled
):
    """Add one allele in its shortest form; ``filled`` counts what is in ``snvs`` and ``others``.

    What both alleles end and begin with is removed, one base before an insertion or deletion kept until last, as
    ``vt normalize`` does (Tan et al. 2015, doi:10.1093/bioinformatics/btv112) without moving the variant.
    ``row`` is kept beside it (see ``ALLELE_BITS``).
    Returns what is wrong with it, SAME where both alleles are the same.
    """
    if pos < 0 or pos + (ref_end - ref) > sizes[chrom]:
        return BEYOND
    while ref_end - ref > 1 and alt_end - alt > 1 and BASE[text[ref_end - 1]] == BASE[text[alt_end - 1]]:
        ref_end -= 1
        alt_end -= 1
    while ref_end - ref > 1 and alt_end - alt > 1 and BASE[text[ref]] == BASE[text[alt]]:
        ref += 1
        alt += 1
        pos += 1
    if ref_end > ref and alt_end > alt and BASE[text[ref]] == BASE[text[alt]]:
        ref += 1
        alt += 1
        pos += 1
    n_ref, n_alt = ref_end - ref, alt_end - alt
    if n_ref == 0 and n_alt == 0:
        return SAME
    if n_ref == n_alt and n_ref <= 2:
        if filled[0] + 2 > len(snvs):
            return FULL
        for k in range(n_ref):
            snvs[filled[0]] = pack_snv(sample, chrom, pos + k, BASE[text[ref + k]], BASE[text[alt + k]])
            snv_rows[filled[0]] = row if k == 0 else -1 - row
            filled[0] += 1
        return SOUND
    if filled[1] == len(others):
        return FULL
    entry = others[filled[1]]
    entry[SAMPLE], entry[CHROM], entry[START], entry[ROW] = sample, chrom, pos, row
    entry[REF_START], entry[REF_LENGTH], entry[ALT_START], entry[ALT_LENGTH] = ref, n_ref, alt, n_alt
    filled[1] += 1
    return SOUND


@numba.njit(cache=True, nogil=True)
def _share_of_reads(text, start, end, af, ad, allele, n_alleles):
    """Share of reads with an allele from the sample's AF, else its AD; NaN where neither says it."""
    if af >= 0:
        at, stop = subfield(text, start, end, af)
        at, stop = list_part(text, at, stop, allele - 1)
        share = decimal(text, at, stop)
        if 0.0 <= share <= 1.0:
            return share
    if ad >= 0:
        first, last = subfield(text, start, end, ad)
        total, own = 0, 0
        for k in range(n_alleles + 1):
            at, stop = list_part(text, first, last, k)
            depth = whole_number(text, at, stop)
            if depth < 0:
                return np.nan
            total += depth
            own = depth if k == allele else own
        return own / total if total > 0 else np.nan
    return np.nan


@numba.njit(cache=True, nogil=True)
def scan_vcf(
    text, starts, ends, first_row, n_rows, n_samples, column_of, all_filters, sizes, used,
    snvs, snv_rows, others, told, filled, counts, shares,
):  # fmt: skip
    """Read the carried alleles of rows of VCF whose fields are located.

    Parameters: the fields are CHROM, POS, REF, ALT, FILTER, INFO, and where ``n_samples`` is above 0 FORMAT and the
    columns of samples, sample s in column ``column_of[s]``; with none, sample 0 carries all; ``sizes`` and ``used``
    (24,) bp and whether a chromosome counts; ``snvs`` uint64, ``snv_rows`` int64, ``others`` (n, 8) int64, to be
    filled from ``filled`` (2,) on, as ``told`` (2, n) float32: the share of reads of each (row 0 of ``snvs``, row 1 of
    ``others``), NaN where it is not told; ``counts`` (n_samples, 4) int64 and ``shares`` (n_samples, 2) float64 (sum
    of shares of reads, their number), to be added to.
    Returns the row at which it stopped (``n_rows`` at the end) and why: SOUND, FULL (come again from this row with
    more room) or what is wrong with the row.
    """
    targets = max(n_samples, 1)
    form = form_end = 0
    gt = af = ad = -1
    for row in range(first_row, n_rows):
        pos = whole_number(text, starts[row, 1], ends[row, 1]) - 1
        if pos < -1:
            return row, POSITION
        ref, ref_end = starts[row, 2], ends[row, 2]
        ref_kind = is_bases(text, ref, ref_end)
        if ref_kind < 0:
            return row, REF
        filter_start, filter_end = starts[row, 4], ends[row, 4]
        if filter_start == filter_end:
            return row, FILTER
        alts, alts_end = starts[row, 3], ends[row, 3]
        if alts == alts_end:
            return row, ALT
        chrom = chromosome_number(text, starts[row, 0], ends[row, 0], LAST_OF_VCF)
        if chrom >= 0 and pos >= sizes[chrom] + 1:
            return row, BEYOND
        passed = all_filters or (filter_end - filter_start == 1 and text[filter_start] == 46)
        if not passed and filter_end - filter_start == 4:
            passed = (
                text[filter_start] == 80
                and text[filter_start + 1] == 65
                and text[filter_start + 2] == 83
                and text[filter_start + 3] == 83
            )
        n_alleles = 1
        for at in range(alts, alts_end):
            n_alleles += text[at] == 44
        # FORMAT is nearly always that of the row before.
        if n_samples > 0 and not same_text(text, starts[row, 6], ends[row, 6], form, form_end):
            form, form_end = starts[row, 6], ends[row, 6]
            gt = key_place(text, form, form_end, 71, 84)
            af = key_place(text, form, form_end, 65, 70)
            ad = key_place(text, form, form_end, 65, 68)
        # With no room left the whole row is read again: until then nothing of it may be counted.
        room = targets * n_alleles
        if filled[0] + 2 * room > len(snvs) or filled[1] + room > len(others):
            return row, FULL
        for allele in range(1, n_alleles + 1):
            alt, alt_end = alts, alts_end
            if n_alleles > 1:
                alt, alt_end = list_part(text, alts, alts_end, allele - 1)
            alt_kind = is_bases(text, alt, alt_end)
            no_allele = n_alleles == 1 and alt_end - alt == 1 and text[alt] == 46
            if alt_kind < 0 and not is_symbolic(text, alt, alt_end):
                return row, ALT
            for sample in range(targets):
                start = end = 0
                if n_samples > 0:
                    start, end = starts[row, column_of[sample]], ends[row, column_of[sample]]
                    if start == end:
                        return row, GENOTYPE
                if gt >= 0:
                    at, stop = subfield(text, start, end, gt)
                    # A sample without any data may be one dot (section 1.6.2), whatever the place of GT.
                    carried = (
                        0
                        if end - start == 1 and text[start] == 46
                        else carries(text, at, stop, allele, n_alleles)
                    )
                    if carried < 0:
                        return row, GENOTYPE
                else:
                    carried = 1
                if no_allele or not carried:
                    counts[sample, NOT_CARRIED] += 1
                elif not passed:
                    counts[sample, FILTERED] += 1
                elif chrom < 0 or not used[chrom]:
                    counts[sample, OUTSIDE] += 1
                elif ref_kind == 0 or alt_kind < 1:
                    counts[sample, UNUSABLE] += 1
                else:
                    n_snvs, n_others = filled[0], filled[1]
                    fault = add_allele(
                        text, sample, chrom, pos, ref, ref_end, alt, alt_end,
                        row << ALLELE_BITS | min(allele, MAX_ALLELE), sizes, snvs, snv_rows, others, filled,
                    )  # fmt: skip
                    if fault == SAME:
                        counts[sample, UNUSABLE] += 1
                    elif fault != SOUND:
                        return row, fault
                    else:
                        share = np.nan
                        if n_samples > 0:
                            share = _share_of_reads(text, start, end, af, ad, allele, n_alleles)
                        if share == share:
                            shares[sample, 0] += share
                            shares[sample, 1] += 1.0
                        told[0, n_snvs : filled[0]] = share
                        told[1, n_others : filled[1]] = share
    return n_rows, SOUND


@numba.njit(cache=True, nogil=True)
def scan_maf(
    text, starts, ends, first_row, n_rows, sample_of, has_filter, has_depths, all_filters, sizes, used,
    snvs, snv_rows, others, told, filled, counts, shares,
):  # fmt: skip
    """Read the alleles of rows of MAF whose fields are located.

    Parameters: the fields are Chromosome, Start_Position, Reference_Allele, Tumor_Seq_Allele1, Tumor_Seq_Allele2,
    FILTER, t_ref_count and t_alt_count (any field where there is none); ``sample_of`` (n_rows,) int64, -1 for rows
    that are not asked for; all else as in ``scan_vcf``.
    """
    for row in range(first_row, n_rows):
        if filled[0] + 2 > len(snvs) or filled[1] + 1 > len(others):
            return row, FULL
        pos = position_number(text, starts[row, 1], ends[row, 1])
        if pos < 1:
            return row, POSITION
        chrom = chromosome_number(text, starts[row, 0], ends[row, 0], LAST_OF_MAF)
        ref, ref_end = starts[row, 2], ends[row, 2]
        if chrom >= 0 and pos > sizes[chrom]:
            return row, BEYOND
        ref_gap = ref_end - ref == 1 and text[ref] == 45
        ref_kind = 1 if ref_gap else is_bases(text, ref, ref_end)
        if ref_kind < 0:
            return row, REF
        # The second allele is the mutated one; the first one is where only it differs from the reference.
        chosen = -1
        for column in (4, 3):
            alt, alt_end = starts[row, column], ends[row, column]
            if alt == alt_end and column == 3:
                continue
            if not (alt_end - alt == 1 and text[alt] == 45) and is_bases(text, alt, alt_end) < 0:
                return row, ALT
            same = alt_end - alt == ref_end - ref
            for k in range(ref_end - ref):
                same = same and (text[alt + k] | 32) == (text[ref + k] | 32)
            if not same and chosen < 0:
                chosen = column
        sample = sample_of[row]
        if sample < 0:
            continue
        passed = all_filters or not has_filter
        if not passed:
            at, stop = starts[row, 5], ends[row, 5]
            passed = stop == at or (stop - at == 1 and text[at] == 46)
            if stop - at == 4:
                passed = text[at] == 80 and text[at + 1] == 65 and text[at + 2] == 83 and text[at + 3] == 83
        if chosen < 0:
            counts[sample, NOT_CARRIED] += 1
            continue
        if not passed:
            counts[sample, FILTERED] += 1
            continue
        if chrom < 0 or not used[chrom]:
            counts[sample, OUTSIDE] += 1
            continue
        alt, alt_end = starts[row, chosen], ends[row, chosen]
        alt_gap = alt_end - alt == 1 and text[alt] == 45
        if ref_kind == 0 or (not alt_gap and is_bases(text, alt, alt_end) == 0):
            counts[sample, UNUSABLE] += 1
            continue
        if ref_gap:
            # Start_Position of an insertion is the base before it.
            ref_end = ref
        else:
            pos -= 1
        if alt_gap:
            alt_end = alt
        n_snvs, n_others = filled[0], filled[1]
        fault = add_allele(
            text, sample, chrom, pos, ref, ref_end, alt, alt_end,
            row << ALLELE_BITS | 1, sizes, snvs, snv_rows, others, filled,
        )  # fmt: skip
        if fault == SAME:
            counts[sample, UNUSABLE] += 1
            continue
        if fault != SOUND:
            return row, fault
        share = np.nan
        if has_depths:
            ref_depth = whole_number(text, starts[row, 6], ends[row, 6])
            alt_depth = whole_number(text, starts[row, 7], ends[row, 7])
            if ref_depth >= 0 and alt_depth >= 0 and ref_depth + alt_depth > 0:
                share = alt_depth / (ref_depth + alt_depth)
                shares[sample, 0] += share
                shares[sample, 1] += 1.0
        told[0, n_snvs : filled[0]] = share
        told[1, n_others : filled[1]] = share
    return n_rows, SOUND
