"""A cohort of tumours measured four ways: RNA-seq counts, somatic mutations, methylation calls, copy number.

Each assay sees a profile of its own, in which the classes lie a stated distance apart; counting, sampling and
purity then blur it, as they do in life.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from oncoarena import provenance, store
from oncoarena.simulation import counts, mutations, segments
from oncoarena.simulation.arguments import check_choice, check_number, check_seed, check_whole
from oncoarena.simulation.expression import SITE_DISTANCE
from oncoarena.simulation.landscape import landscape
from oncoarena.simulation.people import SITES, draw_people, sample_sheet
from oncoarena.simulation.worlds import WORLDS, draw_profiles, equidistant
from oncoarena.simulation.writing import write_sheet

ASSAYS = ("expression", "methylation", "segments", "variants")
VARIANT_FORMATS = ("maf", "vcf")


@dataclass(frozen=True)
class _Task:
    """All that is needed to write one sample and to draw what goes into files of the cohort."""

    seed: tuple[int, int]
    sample_id: str
    sex: str
    profiles: Mapping[str, np.ndarray]
    paths: Mapping[str, str]
    transcriptome: counts.Transcriptome
    methylome: counts.Methylome
    mutability: mutations.Mutability
    n_reads: int
    n_mutations: int
    calls: float


def cohort_files(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the files that ``simulate_cohort`` writes with these arguments, beside those of single samples."""
    of_cohort = ("variants.maf.gz",) if arguments.get("variants", "maf") == "maf" else ()
    return ("samples.tsv", "genes.tsv", "segments.seg", *of_cohort)


def check_arguments(
    n_samples: int,
    n_classes: int,
    strength: float,
    signal_in: str,
    world: str,
    confounding: float,
    n_genes: int,
    n_reads: int,
    n_mutations: int,
    calls: float,
    variants: str,
    seed: int,
) -> None:
    """Raise InputError for an argument of ``simulate_cohort`` that is not legal."""
    check_whole("n_classes", n_classes, 2, 10)
    check_whole("n_samples", n_samples, 2 * n_classes, 1_000_000)
    check_number("strength", strength, 0, 8)
    check_choice("signal_in", signal_in, ("all", *ASSAYS))
    check_choice("world", world, WORLDS)
    check_number("confounding", confounding, 0, 1)
    check_whole("n_genes", n_genes, 100, 60_000)
    check_whole("n_reads", n_reads, 1000, 10**9)
    check_whole("n_mutations", n_mutations, 1, 10**6)
    check_number("calls", calls, 0.5, 1000)
    check_choice("variants", variants, VARIANT_FORMATS)
    check_seed(seed)


def simulate_cohort(
    directory: Path,
    *,
    n_samples: int = 150,
    n_classes: int = 3,
    strength: float = 2.0,
    signal_in: str = "all",
    world: str = "local",
    confounding: float = 0.0,
    n_genes: int = 2000,
    n_reads: int = 2_000_000,
    n_mutations: int = 1500,
    calls: float = 15.0,
    variants: str = "maf",
    seed: int = 0,
    map_samples: Callable[..., Iterable[Any]] = map,
) -> Path:
    """Write a cohort below a directory, a sample a patient; same arguments, same bytes.

    ``strength`` is the d' of an oracle that sees the profiles of one assay as they are, before anything is counted (see
    ``expression.simulate_expression``): any two classes are that far apart in each assay that carries a signal, so
    two assays together tell more than one. What files show is less. At 0 the labels have nothing to do with them.

    Parameters: ``signal_in`` is ``all``, or the one assay that carries the signal; ``world`` is where it lies among
    genes and among regions of methylation (of arms and of mutations all are concerned); ``confounding`` (0 to 1) is
    the share of patients whose site is decided by their label, and scales what sites do to expression and
    methylation; ``n_reads`` of RNA and ``n_mutations`` are typical of a sample; ``calls`` are the reads over a CpG
    site; ``variants`` is ``maf`` (one file, with a column CONTEXT) or ``vcf`` (one a sample).
    Returns the path of samples.tsv, written last: its columns ``expression`` (GDC STAR counts), ``methylation``
    (bedMethyl) and, where asked for, ``variants`` (VCF) name the objects; variants.maf.gz, segments.seg and
    genes.tsv (where genes lie) are of the whole cohort. Raises InputError for an argument that is not legal.
    """
    arguments = {
        "n_samples": n_samples,
        "n_classes": n_classes,
        "strength": strength,
        "signal_in": signal_in,
        "world": world,
        "confounding": confounding,
        "n_genes": n_genes,
        "n_reads": n_reads,
        "n_mutations": n_mutations,
        "calls": calls,
        "variants": variants,
        "seed": seed,
    }
    check_arguments(**arguments)
    directory = Path(directory)
    rng = np.random.default_rng(seed)
    genome = landscape()
    labels = rng.permutation(np.arange(n_samples) % n_classes)
    people = draw_people(rng, labels, float(confounding))
    names = tuple(f"class_{number + 1}" for number in range(n_classes))
    sheet = sample_sheet(rng, np.arange(n_samples), labels, names, people)
    transcriptome = counts.draw_transcriptome(rng, genome, n_genes)
    methylome = counts.draw_methylome(rng, genome)
    mutability = mutations.draw_mutability(rng, genome, transcriptome.genes)
    places = {
        "expression": transcriptome.genes["chrom"].to_numpy(),
        "methylation": methylome.region_chrom,
        "segments": segments.autosomal_arms(genome),
        "variants": np.zeros(mutations.N_LATENT),
    }
    site = people["site"].map(SITES.index).to_numpy()
    profiles = {}
    for assay, where in places.items():
        own = float(strength) if signal_in in ("all", assay) else 0.0
        along_genome = assay in ("expression", "methylation")
        profiles[assay] = draw_profiles(rng, labels, world if along_genome else "diffuse", own, where)
        shifts = equidistant(rng.normal(size=(len(where), len(SITES))), np.zeros((len(where), 0)))
        if along_genome:
            profiles[assay] += confounding * SITE_DISTANCE / np.sqrt(2) * shifts.T[site]

    endings = {"expression": ".star_counts.tsv", "methylation": ".bedmethyl.gz"}
    endings |= {"variants": ".vcf.gz"} if variants == "vcf" else {}
    for assay, ending in endings.items():
        sheet[assay] = [(directory / assay / f"{name}{ending}").as_posix() for name in sheet["sample_id"]]
    sheet["simulation"] = store.digest_json([arguments, provenance.code_digest(__name__)])[7:19]
    tasks = [
        _Task(
            seed=(seed, row),
            sample_id=sheet["sample_id"][row],
            sex=sheet["sex"][row],
            profiles={assay: values[row] for assay, values in profiles.items()},
            paths={assay: sheet[assay][row] for assay in endings},
            transcriptome=transcriptome,
            methylome=methylome,
            mutability=mutability,
            n_reads=n_reads,
            n_mutations=n_mutations,
            calls=float(calls),
        )
        for row in range(n_samples)
    ]
    found = list(map_samples(_write_sample, tasks))
    if variants == "maf":
        mutations.write_maf(directory / "variants.maf.gz", [table for table, _ in found])
    write_sheet(directory / "segments.seg", pd.concat([table for _, table in found]))
    write_sheet(directory / "genes.tsv", transcriptome.genes)
    write_sheet(directory / "samples.tsv", sheet)
    return directory / "samples.tsv"


def _write_sample(task: _Task) -> tuple[pa.Table, pd.DataFrame]:
    """Write one sample's own files; return its rows of the MAF and of the SEG."""
    genome = landscape()
    streams = dict(zip(ASSAYS, np.random.default_rng(task.seed).spawn(len(ASSAYS)), strict=True))
    counts.write_star_counts(
        Path(task.paths["expression"]),
        streams["expression"],
        task.transcriptome,
        task.profiles["expression"],
        task.n_reads,
    )
    counts.write_bedmethyl(
        Path(task.paths["methylation"]),
        streams["methylation"],
        task.methylome,
        task.profiles["methylation"],
        task.calls,
        task.sex,
    )
    table = mutations.draw_mutations(
        streams["variants"], genome, task.mutability, task.profiles["variants"], task.n_mutations
    )
    if "variants" in task.paths:
        mutations.write_vcf(Path(task.paths["variants"]), genome, task.sample_id, table)
    rows = segments.draw_segments(
        streams["segments"], genome, task.sample_id, task.profiles["segments"], task.sex
    )
    return mutations.maf_table(task.sample_id, table), rows
