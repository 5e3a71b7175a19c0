"""Checks for a signal that is not the tumour's: covariates, sites, missing values."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from oncoarena.referee.evaluation import evaluate, plain_names
from oncoarena.referee.evidence import Evidence, Finding, interval_text, some
from oncoarena.referee.missing_values import missing_by_class
from oncoarena.referee.pieces import draw_features, draw_rows, extent, first_rows_of_patients, read_piece
from oncoarena.referee.site_signal import association_p, cramers_v, site_signal

N_PERMUTATIONS = 199
SURE = 0.01
"""p value at or below which a tie is taken for one."""

SITE_GAIN = 0.1
"""AUROC by which a site must be known better than through the label."""

MISSING_GAP = 0.05
"""Gap between the missing rates of two classes that is worth a word."""

KEYS = ("sample_id", "patient_id", "label", "split")


def site_in_the_features(evidence: Evidence) -> Iterator[Finding]:
    """CHK006 The site can be read from the features, and it is tied to the label.

    Where sites differ in their features (batch effect) and in their mix of classes, a model can do well by
    recognising the site. Two things must come together. Label and site are tied: permutation p at most 0.01 of
    the chi-square statistic, strength by Cramer's V. And the features know the site beyond what the label tells:
    cross-validated macro AUROC over sites, one sample a patient, at least 0.1 above what permuting
    the site within classes gives, p at most 0.01. Where every class comes from one site the two cannot be told
    apart: a finding by itself. Sites of fewer than 5 patients are left out; up to 1,500 patients and 2,000
    features are drawn by a fixed seed. Remedy: leave one site out, or match the sites by class.
    """
    if "site" not in evidence.samples.columns:
        yield "", "not_applicable", "The sample sheet has no column site."
        return
    names = plain_names(evidence.samples["site"]).to_numpy(dtype=object)
    used = evidence.positions(evidence.splits["sample_id"].unique())
    rows = first_rows_of_patients(evidence.samples["patient_id"], used[names[used] != ""])
    large = [site for site, n in pd.Series(names[rows]).value_counts().items() if n >= 5]
    in_all = rows[np.isin(names[rows], large)]
    rows = draw_rows(in_all, 1_500, evidence.seed)
    _, sites = np.unique(names[rows], return_inverse=True)
    _, labels = np.unique(evidence.samples["label"].astype(str).to_numpy()[rows], return_inverse=True)
    if len(large) < 2 or len(np.unique(labels)) < 2:
        yield "", "not_applicable", "Fewer than two sites of 5 patients, or fewer than two classes in them."
        return
    rng = np.random.default_rng(evidence.seed)
    strength, p_tie = cramers_v(sites, labels), association_p(sites, labels, N_PERMUTATIONS, rng)
    tie = f"Label and site: Cramer's V {strength:.2f}, p = {p_tie:.3f}"
    if len(np.unique(labels * len(large) + sites)) == len(np.unique(labels)):
        yield (
            "",
            "finding",
            f"{tie}: every class comes from one site, so class and site cannot be told apart.",
        )
        return
    if evidence.blocks is None:
        yield "", "not_applicable", f"{tie}. The features were not given."
        return
    piece = read_piece(evidence.blocks, rows, draw_features(evidence.blocks, 2_000, evidence.seed))
    signal = site_signal(piece.values, sites, labels, N_PERMUTATIONS, rng)
    detail = (
        f"{tie}. Site from the features: AUROC {signal.auroc:.3f}, through the label alone "
        f"{signal.expected:.3f}, p = {signal.p_value:.3f} ({extent(len(rows), len(in_all), piece, 'patients')})."
    )
    known = signal.p_value <= SURE and signal.auroc - signal.expected >= SITE_GAIN
    yield "", "finding" if known and p_tie <= SURE else "pass", detail


def site_performance_falls(evidence: Evidence) -> Iterator[Finding]:
    """CHK007 Performance falls on a held-out site.

    A model that has learned a laboratory's habits fails in the next one. Applies where a split's test
    part holds a site that its training part does not; samples without a site belong to none. A finding where a
    site's interval of accuracy lies under the estimate over all sites.
    """
    if "site" not in evidence.samples.columns:
        yield "", "not_applicable", "The sample sheet has no column site."
        return
    sites = plain_names(evidence.samples["site"])
    table = evidence.splits.merge(evidence.samples[["sample_id"]].assign(site=sites), on="sample_id")
    table = table[table["site"] != ""]
    keys = ["repeat", "fold", "site"]
    tested = table[table["role"] == "test"][keys].drop_duplicates()
    seen = table[table["role"] != "test"][keys].drop_duplicates().assign(seen=True)
    held_out = tested.merge(seen, on=keys, how="left")
    held_out = held_out.loc[held_out["seen"].isna(), "site"].unique()
    if not len(held_out):
        yield "", "not_applicable", "Every site tested is also in training; no site was held out."
        return
    outcomes = evidence.outcomes.only(evidence.competing())
    # The prefix keeps a site that is called "all" apart from all of them.
    of_rows = "site=" + sites.to_numpy(dtype=object)[evidence.positions(outcomes.sample_ids)]
    names = pd.DataFrame({"site": of_rows})
    by_site = evaluate(outcomes, names, 400, evidence.seed).query("metric == 'accuracy'")
    for hypothesis in outcomes.hypotheses:
        rows = by_site[by_site["hypothesis"] == hypothesis].set_index("stratum")
        whole = rows.loc["all", "estimate"]
        low = [
            f"{site} ({interval_text(rows.loc[f'site={site}'])})"
            for site in sorted(held_out)
            if rows.loc[f"site={site}", "ci_high"] < whole
        ]
        if low:
            yield hypothesis, "finding", f"Accuracy falls from {whole:.3f} overall at {some(low)}."
        else:
            yield (
                hypothesis,
                "pass",
                f"Accuracy at {len(held_out)} held-out sites agrees with {whole:.3f} overall.",
            )


def missing_values_related_to_label(evidence: Evidence) -> Iterator[Finding]:
    """CHK014 Missing values are related to the label.

    If a feature, or a column of the sheet, is missing more often in one class, being missing gives the label
    away, and a model that imputes learns the laboratory's routine, not the tumour. Compares the share
    missing between classes, for every feature and column and for all features together, by permuting the labels
    of patients; p values are corrected for the number of quantities (the largest of all in each
    permutation). A finding where p is at most 0.01 and two classes differ by 5 points or more. Up to 2,000
    patients and 20,000 features are
    drawn by a fixed seed. Remedy: find out why; drop the feature, or test without it.
    """
    used = evidence.positions(evidence.splits["sample_id"].unique())
    in_all = first_rows_of_patients(evidence.samples["patient_id"], used)
    rows = draw_rows(in_all, 2_000, evidence.seed)
    sheet = [name for name in evidence.samples.columns if name not in KEYS]
    names = [f"column {name}" for name in sheet]
    parts = [
        (plain_names(evidence.samples[name]).to_numpy()[rows] == "")[:, None].astype(np.float32)
        for name in sheet
    ]
    looked_at = f"{len(rows):,} patients and {len(sheet)} columns of the sheet"
    if evidence.blocks is not None:
        piece = read_piece(evidence.blocks, rows, draw_features(evidence.blocks, 20_000, evidence.seed))
        missing = np.isnan(piece.values)
        looked_at = f"{extent(len(rows), len(in_all), piece, 'patients')}, {len(sheet)} columns of the sheet"
        parts += [missing.mean(axis=1, keepdims=True, dtype=np.float32), missing]
        names += ["all features together", *piece.names]
    together = np.concatenate(parts, axis=1) if parts else np.empty((len(rows), 0), np.float32)
    varied = np.flatnonzero(together.max(0, initial=0) > together.min(0, initial=1))
    if not len(varied):
        yield "", "not_applicable", f"Nothing is missing in some patients only ({looked_at})."
        return
    labels = pd.Index(evidence.classes).get_indexer(evidence.samples["label"].astype(str))[rows]
    rng = np.random.default_rng(evidence.seed)
    table = missing_by_class(together[:, varied], labels, len(evidence.classes), N_PERMUTATIONS, rng)
    present = np.unique(labels)
    rates = table.rates[present]
    gap = rates.max(0) - rates.min(0)
    found = np.flatnonzero((table.p_values <= SURE) & (gap >= MISSING_GAP))
    listed = [
        f"{names[varied[k]]} ({evidence.classes[present[rates[:, k].argmax()]]} {rates[:, k].max():.0%}, "
        f"{evidence.classes[present[rates[:, k].argmin()]]} {rates[:, k].min():.0%})"
        for k in found[np.argsort(-gap[found], kind="stable")]
    ]
    if listed:
        yield "", "finding", f"More is missing in some classes: {some(listed)}; {looked_at}."
    else:
        yield (
            "",
            "pass",
            f"What is missing is not tied to the label; least p = {table.p_values.min():.3f} ({looked_at}).",
        )
