"""A cohort of plasma samples, cancer and healthy: cell-free DNA as BAM, CRAM or fragment files.

The tumour sheds shorter fragments with other end motifs, from a genome whose chromosome arms are gained and lost as is
typical of its type; how much it sheds goes by stage. All samples have a GC bias, a share of short fragments and a
site of their own, so what a tumour does has to be told from what libraries do.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from oncoarena import provenance, store
from oncoarena.errors import InputError
from oncoarena.simulation.arguments import check_choice, check_number, check_seed, check_whole
from oncoarena.simulation.fragments import MIN_FRAGMENT_BP, Damage, Fragments, Library, draw_fragments
from oncoarena.simulation.landscape import Landscape, landscape
from oncoarena.simulation.people import draw_people, sample_sheet
from oncoarena.simulation.writing import write_sheet

FORMATS = {"bam": ".bam", "cram": ".cram", "bed": ".bed.gz"}
ARMS_BY_TYPE = {
    "breast": ("1q 8q 16p 20q", "8p 11q 13q 16q 17p"),
    "colorectal": ("7p 7q 8q 13q 20p 20q", "8p 17p 18p 18q"),
    "lung": ("1q 3q 5p 8q", "3p 8p 9p 13q 17p"),
    "ovarian": ("1q 3q 8q 20q", "4q 8p 13q 16q 17p 22q"),
}
"""Chromosome arms often gained, and often lost, by type (after Taylor 2018, doi:10.1016/j.ccell.2018.03.007)."""
TYPICAL_SHARE, OTHER_SHARE = 0.6, 0.04
"""Shares of patients with each typical change of an arm, and with a gain or loss of any other arm."""

STAGE_TUMOUR_FRACTION = {"I": 0.02, "II": 0.05, "III": 0.1, "IV": 0.2}
"""Median share of tumour DNA at strength 1; that it rises with stage is known (Bettegowda 2014,
doi:10.1126/scitranslmed.3007094), the numbers are ours."""
TUMOUR_FRACTION_SD = 0.6
"""Standard deviation of its logarithm between patients of a stage."""

NO_CANCER = "none"
"""Stage and type of cancer of the healthy: not missing, but nothing."""

HEALTHY_SHORT, TUMOUR_SHORT = 0.18, 0.55
"""Mean share of fragments of the short kind, among those from healthy cells and from the tumour."""
_SHORT_SD = 0.015
_COMPARTMENT_EFFECT = 0.02
_GC_SLOPES = {"site_a": 0.5, "site_b": -1.0, "site_c": 1.5}
_GC_SLOPE_SD = 0.8
_SHORT_BY_SITE = {"site_a": 0.0, "site_b": 0.01, "site_c": -0.01}
_Y_STRAY = 0.004  # copies of Y that reads of a woman seem to show


@dataclass(frozen=True)
class _Task:
    """All that is needed to write one sample, small enough to be sent to another process."""

    path: str
    sample_id: str
    seed: tuple[int, int]
    n_reads: int
    read_bp: int
    format: str
    level: int
    library: Library


def cohort_files(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the files that ``simulate_cohort`` writes beside those of single samples."""
    return ("samples.tsv", "truth.tsv")


def check_arguments(
    n_samples: int,
    n_reads: int,
    strength: float,
    samples_per_patient: int,
    confounding: float,
    read_bp: int,
    format: str,
    level: int,
    seed: int,
) -> None:
    """Raise InputError for an argument of ``simulate_cohort`` that is not legal."""
    check_whole("samples_per_patient", samples_per_patient, 1, 1000)
    check_whole("n_samples", n_samples, 4 * samples_per_patient, 1_000_000)
    check_whole("n_reads", n_reads, 100, 10**11)
    check_number("strength", strength, 0, 8)
    check_number("confounding", confounding, 0, 1)
    check_whole("read_bp", read_bp, 20, MIN_FRAGMENT_BP)
    if read_bp % 2:
        raise InputError(f"simulate: read_bp: found {read_bp!r}, expected an even number.")
    check_choice("format", format, tuple(FORMATS))
    check_whole("level", level, 1, 12)
    check_seed(seed)


def simulate_cohort(
    directory: Path,
    *,
    n_samples: int = 60,
    n_reads: int = 200_000,
    strength: float = 1.0,
    samples_per_patient: int = 1,
    confounding: float = 0.0,
    read_bp: int = 50,
    format: str = "bam",
    level: int = 1,
    seed: int = 0,
    map_samples: Callable[..., Iterable[Any]] = map,
) -> Path:
    """Write a cohort below a directory; same arguments, same bytes (of one version of the compressing libraries).

    ``strength`` scales what tumours shed: the median tumour fraction of a stage is 1 - exp(-strength x
    ``STAGE_TUMOUR_FRACTION``); at 0 the labels have nothing to do with the files. Half of the patients have cancer.

    Parameters: ``n_reads`` of each sample, in pairs, with and without a place (secondary and supplementary records
    come on top); ``samples_per_patient`` share the tumour and its copy numbers; ``confounding`` (0 to 1) is the share
    of patients whose site is decided by their label, sites having a GC bias and fragment lengths of their own;
    ``read_bp`` is the length of reads; ``format`` is ``bam`` (with .bai), ``cram`` (with .crai, no reference needed) or
    ``bed`` (fragments: chrom, start, end, mapq, strand; bgzipped, with .tbi); ``level`` is that of compression;
    ``map_samples`` runs one task a sample.
    Returns the path of samples.tsv, written last: its column ``alignments`` names the objects, and ``simulation`` a
    digest of the arguments and the code. What was planted is in truth.tsv.
    Raises InputError for an argument that is not legal.
    """
    arguments = {
        "n_samples": n_samples,
        "n_reads": n_reads,
        "strength": strength,
        "samples_per_patient": samples_per_patient,
        "confounding": confounding,
        "read_bp": read_bp,
        "format": format,
        "level": level,
        "seed": seed,
    }
    check_arguments(**arguments)
    directory = Path(directory)
    rng = np.random.default_rng(seed)
    patients = np.arange(n_samples) // samples_per_patient
    labels = rng.permutation(np.arange(patients[-1] + 1) % 2)
    people = draw_people(rng, labels, float(confounding))
    cancer_type = _draw_types(rng, people["sex"].to_numpy())
    sheet = sample_sheet(rng, patients, labels, ("healthy", "cancer"), people)
    genome = landscape()
    libraries, truth = _draw_libraries(rng, genome, float(strength), sheet, labels, cancer_type)

    is_healthy = sheet["label"] == "healthy"
    sheet["stage"] = sheet["stage"].mask(is_healthy, NO_CANCER)
    sheet["cancer_type"] = np.where(is_healthy, NO_CANCER, cancer_type[patients])
    folder = directory / "alignments"
    paths = [folder / f"{sample_id}{FORMATS[format]}" for sample_id in sheet["sample_id"]]
    sheet["alignments"] = [path.as_posix() for path in paths]
    sheet["simulation"] = store.digest_json([arguments, provenance.code_digest(__name__)])[7:19]
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [
        _Task(str(path), sample_id, (seed, row), n_reads, read_bp, format, level, library)
        for row, (path, sample_id, library) in enumerate(
            zip(paths, sheet["sample_id"], libraries, strict=True)
        )
    ]
    for _ in map_samples(_write_sample, tasks):
        pass
    write_sheet(directory / "truth.tsv", truth)
    write_sheet(directory / "samples.tsv", sheet)
    return directory / "samples.tsv"


def _draw_types(rng: np.random.Generator, sex: np.ndarray) -> np.ndarray:
    """Draw a type of cancer for everybody, so that who is ill has nothing to do with sex."""
    women, men = np.array(sorted(ARMS_BY_TYPE)), np.array(["colorectal", "lung"])
    return np.where(sex == "F", rng.choice(women, len(sex)), rng.choice(men, len(sex)))


def _draw_libraries(
    rng: np.random.Generator,
    genome: Landscape,
    strength: float,
    sheet: pd.DataFrame,
    labels: np.ndarray,
    cancer_type: np.ndarray,
) -> tuple[list[Library], pd.DataFrame]:
    """Draw what decides each sample's fragments, and say it in a table.

    Everybody gets a tumour; that of a healthy person sheds nothing. So the numbers drawn for one sample do not depend
    on the labels, and two strengths share all else.
    """
    arms = np.array(genome.arms)
    codes = pd.factorize(sheet["patient_id"])[0]
    changes = np.stack([_draw_arms(rng, arms, kind) for kind in cancer_type])  # (n_patients, n_arms)
    spread = rng.normal(0, TUMOUR_FRACTION_SD, len(labels))
    own_spread = rng.normal(0, TUMOUR_FRACTION_SD / 3, len(sheet))
    slopes = sheet["site"].map(_GC_SLOPES) + rng.normal(0, _GC_SLOPE_SD, len(sheet))
    short = HEALTHY_SHORT + sheet["site"].map(_SHORT_BY_SITE) + rng.normal(0, _SHORT_SD, len(sheet))
    median = sheet["stage"].map(STAGE_TUMOUR_FRACTION).to_numpy()
    fraction = 1 - np.exp(-strength * median * np.exp(spread[codes] + own_spread))
    fraction = np.where(labels[codes] == 1, fraction, 0.0)
    libraries, rows = [], []
    for row, patient in enumerate(codes):
        normal = _normal_copies(genome, sheet["sex"][row])
        tumour = np.maximum(normal + np.where(normal >= 1, changes[patient][genome.arm], 0), 0)
        open_chromatin = _COMPARTMENT_EFFECT * genome.compartment
        libraries.append(
            Library(
                healthy_copies=normal,
                tumour_copies=tumour,
                tumour_fraction=float(fraction[row]),
                gc_slope=float(slopes[row]),
                healthy_short=np.clip(short[row] + open_chromatin, 0.01, 0.99),
                # What is packed in healthy blood cells is open in the tumour.
                tumour_short=np.clip(short[row] + TUMOUR_SHORT - HEALTHY_SHORT - open_chromatin, 0.01, 0.99),
            )
        )
        rows.append(
            {
                "sample_id": sheet["sample_id"][row],
                "tumour_fraction": round(float(fraction[row]), 6),
                "gc_slope": round(float(slopes[row]), 4),
                "short_share": round(float(short[row]), 4),
                "gained": " ".join(arms[changes[patient] > 0]),
                "lost": " ".join(arms[changes[patient] < 0]),
            }
        )
    return libraries, pd.DataFrame(rows)


def _draw_arms(rng: np.random.Generator, arms: np.ndarray, cancer_type: str) -> np.ndarray:
    """Draw the change in copies of each arm, (n_arms,): -1, 0 or 1."""
    gained, lost = (np.isin(arms, words.split()) for words in ARMS_BY_TYPE[cancer_type])
    usual = np.where(gained, 1, -1) * (rng.random(len(arms)) < TYPICAL_SHARE)
    other = rng.choice([-1, 0, 1], len(arms), p=[OTHER_SHARE / 2, 1 - OTHER_SHARE, OTHER_SHARE / 2])
    changes = np.where(gained | lost, usual, other)
    return np.where(np.char.startswith(arms, "X") | np.char.startswith(arms, "Y"), 0, changes)


def _normal_copies(genome: Landscape, sex: str) -> np.ndarray:
    """Return the copies of each bin in a person without a tumour, (n_bins,)."""
    by_chromosome = np.full(len(genome.chromosomes), 2.0)
    by_chromosome[genome.chromosomes.index("chrX")] = 2.0 if sex == "F" else 1.0
    by_chromosome[genome.chromosomes.index("chrY")] = _Y_STRAY if sex == "F" else 1.0
    return by_chromosome[genome.chrom]


def _write_sample(task: _Task) -> None:
    """Write one object and its index, whole."""
    import pysam

    from oncoarena.simulation import bam

    # Two streams: the formats of one sample hold the same fragments.
    of_places, of_bases = np.random.default_rng(task.seed).spawn(2)
    damage = Damage()
    n_pairs = task.n_reads // 2
    n_unmapped = round(damage.unmapped * n_pairs)
    genome = landscape()
    windows = draw_fragments(of_places, genome, task.library, n_pairs - n_unmapped, damage)
    target = Path(task.path)
    # CRAM keeps the name of its file: it is written under its own, in a folder beside.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as folder:
        path = os.path.join(folder, target.name)
        if task.format == "bed":
            with open(path, "wb") as stream:
                _write_fragments(stream, windows, genome.chromosomes, task.level)
            pysam.tabix_index(path, preset="bed", force=True)
        else:
            packed = path if task.format == "bam" else path + ".bam"
            with open(packed, "wb") as stream:
                records = bam.encode_records(of_bases, windows, n_unmapped, damage, task.read_bp)
                _write_bam(stream, records, genome, task.sample_id, task.level)
            if task.format == "cram":
                pysam.view("--no-PG", "-O", "cram,no_ref=1", "-o", path, packed, catch_stdout=False)
                os.remove(packed)
            pysam.index(path)
        for name in sorted(os.listdir(folder), key=lambda name: name == target.name):
            os.replace(os.path.join(folder, name), target.with_name(name))


def _write_bam(
    stream: Any, records: Iterator[np.ndarray], genome: Landscape, sample_id: str, level: int
) -> None:
    from oncoarena.simulation import bam

    bam.write_bgzf(stream, bam.header(genome.chromosomes, genome.sizes.tolist(), sample_id), level=level)
    for some in records:
        if len(some):
            bam.write_bgzf(stream, np.ascontiguousarray(some).view(np.uint8), some.itemsize, level)
    stream.write(bam.BGZF_END)


def _write_fragments(
    stream: Any, windows: Iterator[Fragments], chromosomes: tuple[str, ...], level: int
) -> None:
    """Write the fragments of which both reads have a place and that are no copies."""
    from oncoarena.simulation import bam

    options = pyarrow.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    for window in windows:
        kept = ~(window.duplicate | window.half_mapped | window.qc_fail)
        n = int(kept.sum())
        table = pa.table(
            {
                "chrom": [chromosomes[window.chrom]] * n,
                "start": window.start[kept],
                "end": window.end[kept],
                "mapq": window.mapq[kept].min(axis=1),
                "strand": np.where(window.forward_first[kept], "+", "-"),
            }
        )
        sink = pa.BufferOutputStream()
        with contextlib.closing(sink):
            pyarrow.csv.write_csv(table, sink, options)
            bam.write_bgzf(stream, memoryview(sink.getvalue()), level=level)
    stream.write(bam.BGZF_END)
