"""A made-up study with every table that a report can show: quality, exclusions, flow, steps and more."""

import numpy as np
import pandas as pd

from explained_studies import add_attributions, genes, genome_bins
from judged import further_tables, make_study
from oncoarena.quality import excluded_samples, sample_flow
from oncoarena.referee.operating_points import OPERATING_COLUMNS
from oncoarena.reporting.tables import FURTHER

BAD = (40, 41, 42)
"""Samples whose objects were not taken."""


def make_quality(samples: pd.DataFrame) -> pd.DataFrame:
    """What an extraction of alignments measures, with faults: an odd insert size, a GC slope, two swapped sexes."""
    rng, n = np.random.default_rng(1), len(samples)
    uris = [f"s3://bucket/cohort/{name}.bam" for name in samples["sample_id"]]
    quality = pd.DataFrame(
        {
            "sample_id": samples["sample_id"],
            "status": "read",
            "reason": "",
            "offset": np.nan,
            "uri": uris,
            "n_records": rng.lognormal(16, 0.3, n).round(),
            "n_duplicates": rng.lognormal(12, 1.5, n).round(),
            "insert_mode_bp": rng.normal(167, 2, n).round(),
            "gc_slope": rng.normal(0, 0.02, n),
            "n_bins": 2875.0,
            "sex_inferred": np.where(samples["sex"] == "F", "female", "male"),
        }
    )
    quality.loc[3, "insert_mode_bp"], quality.loc[7, "gc_slope"] = 330, 0.4
    for i in (5, 9):
        quality.loc[i, "sex_inferred"] = {"female": "male", "male": "female"}[quality.loc[i, "sex_inferred"]]
    numbers = ["n_records", "n_duplicates", "insert_mode_bp", "gc_slope", "n_bins"]
    bad = list(BAD)
    quality.loc[bad, numbers] = np.nan
    quality.loc[bad, ["sex_inferred", "status"]] = [None, "quarantined"]
    for i, offset in zip(bad, (512, 9000, np.nan), strict=True):
        what = "is aligned to hg19, the study says hg38; set genome: hg19"
        if offset == offset:
            what = f"ends at byte {offset} inside a BGZF block; copy the file again"
        quality.loc[i, "reason"], quality.loc[i, "offset"] = f"{uris[i]}: {what}", offset
    return quality


def make_timings(quality: pd.DataFrame) -> pd.DataFrame:
    """100 MB an object at 50 MB/s, one of them at 20."""
    read = quality[quality["status"] == "read"]
    seconds = np.where(read["sample_id"] == "s11", 5.0, 2.0)
    table = read[["sample_id", "n_records"]].assign(n_bytes=100_000_000, seconds=seconds)
    return table.assign(mb_per_s=100 / seconds)


def make_operating_points() -> pd.DataFrame:
    """Two thresholds of three hypotheses, over all samples and at one site; a fourth has none."""
    rows = []
    for i, name in enumerate(("wide_deep", "sparse_markers", "l2_logistic")):
        for stratum in ("all", "site=Lund"):
            for level in (0.9, 0.95):
                row = dict.fromkeys(OPERATING_COLUMNS, 0.5) | {"hypothesis": name, "stratum": stratum}
                row |= {"rule": "specificity", "level": level, "n_splits": 1, "remark": ""}
                for rate, value in (("specificity", level - 0.02), ("sensitivity", 0.9 - 0.2 * i)):
                    row |= {rate: value, f"{rate}_low": value - 0.1, f"{rate}_high": value + 0.02}
                    row |= {f"{rate}_exact_low": value - 0.12, f"{rate}_exact_high": value + 0.03}
                rows.append(row | {"n_negatives": 15, "n_positives": 5})
    rows.append(
        {"hypothesis": "prior_only", "stratum": "all", "rule": "", "remark": "its calls never differ"}
    )
    return pd.DataFrame(rows, columns=OPERATING_COLUMNS)


def make_seeds() -> pd.DataFrame:
    """Three seeds of two hypotheses."""
    rows = [
        (name, seed, "accuracy", value - 0.02 * seed, 0.05 if seed else np.nan)
        for name, value in (("wide_deep", 0.95), ("l2_logistic", 0.5))
        for seed in range(3)
    ]
    return pd.DataFrame(rows, columns=FURTHER["seeds"].split())


def make_full_study(**options) -> dict:
    """A study as of ``judged.make_study`` with all that it may have beyond."""
    study = make_study(strata=("site=Lund", "site=Nagoya"), **options)
    samples = study["samples"]
    samples["sex"] = np.where(np.random.default_rng(0).random(len(samples)) < 0.5, "F", "M")
    quality = make_quality(samples)
    excluded = excluded_samples({"alignments": quality})
    study["splits"] = study["splits"][~study["splits"]["sample_id"].isin(excluded["sample_id"])]
    study["study"]["flow"] = sample_flow(samples, study["splits"], excluded)
    study["study"]["notes"] = {"alignments": ["The reference of 77 objects is hg38."]}
    trained = [f"{run['hypothesis']}.0" for run in study["runs"] if run["splits"]]
    rows = [
        ("check_samples", "", 1.2, 0.5, 120, 1, 0.1),
        ("split", "", 1.1, np.nan, np.nan, np.nan, np.nan),
        *(("extract", f"alignments.{i}", 300 + i, 1200, 2500, 40000, 12) for i in range(3)),
        ("freeze", "alignments", 4, 3, 300, 10, 10),
        *(("train", job, 20 + 5 * i, 30, 900, 40, 1) for i, job in enumerate(trained)),
        ("evaluate", "", 25, 30, 600, 50, 1),
    ]
    columns = ["step", "job", "seconds", "cpu_seconds", "peak_memory_mb", "read_mb", "written_mb"]
    study["tables"] |= further_tables()
    add_attributions(study, genome_bins(5_000_000) | genes(300))
    study["study"]["endpoint"] = {
        "sealed": "2026-11-19T08:00:00+00:00",
        "threshold_rule": "the lowest threshold with a specificity of 95 % in training",
        "digest": "sha256:" + 8 * "0123abcd",
    }
    study["tables"] |= {
        "operating_points": make_operating_points(),
        "seeds": make_seeds(),
        "qc_alignments": quality,
        "excluded": excluded,
        "timings_alignments": make_timings(quality),
        "steps": pd.DataFrame(rows, columns=columns),
    }
    return study
