"""Checks for what a model could know about the test samples before it was tested."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import norm

from oncoarena.referee.chance import permuted_aurocs
from oncoarena.referee.equal_rows import equal_rows
from oncoarena.referee.evidence import Evidence, Finding, interval_text, some
from oncoarena.referee.metrics import auroc
from oncoarena.referee.near_duplicates import near_duplicates
from oncoarena.referee.pieces import draw_features, draw_rows, extent, pick, read_piece
from oncoarena.referee.single_features import SingleFeature, choose_feature, feature_aurocs, short_list

ALONE_LEAST = 0.8
"""AUROC below which a single feature is nothing to wonder at."""

ALONE_MARGIN = 0.02
"""How far a single feature may stay behind the best hypothesis and still do it all."""


def patient_on_both_sides(evidence: Evidence) -> Iterator[Finding]:
    """CHK001 A patient is on both sides of a split.

    Samples of one patient resemble each other, so a model that has seen one of them in training can
    recognise the other in the test. Looks for patients with a training or validation sample and a test
    sample in the same split. Remedy: split by patient.
    """
    table = _with_patients(evidence)
    tested = table[table["role"] == "test"][["repeat", "fold", "patient_id"]].drop_duplicates()
    seen = table[table["role"] != "test"][["repeat", "fold", "patient_id"]].drop_duplicates()
    both = tested.merge(seen, on=["repeat", "fold", "patient_id"])
    if len(both):
        names = sorted(both["patient_id"].unique())
        yield "", "finding", f"{len(names)} patients are in training and test of one split: {some(names)}."
    else:
        n_splits = len(table[["repeat", "fold"]].drop_duplicates())
        yield "", "pass", f"No patient is on both sides of any of {n_splits} splits."


def duplicates_across_splits(evidence: Evidence) -> Iterator[Finding]:
    """CHK002 The same features are on both sides of a split under two sample names.

    A duplicated library, or one sample listed twice under two patients, leaks like CHK001 but no
    identifier shows it. Looks for pairs of samples, one in training or validation and one in the test of
    the same split and of different patients, with equal digests of their rows in any block or, where the values are
    at hand, features that correlate nearly perfectly (0.95 or more once standardised) and far above each sample's
    other neighbours, so that a study of close relatives is no alarm (1 in 1,000 studies by luck). Rows that two
    patients may share by nature, such as those of samples without mutations, are no alarm either: an equal row counts
    where its known values change at least 20 times from a feature to the next, or are at least 8 different numbers.
    Up to 8,000 samples and 2,000 features are drawn for correlations by a fixed seed. Remedy: remove one, or give both
    the same patient.
    """
    if evidence.digests is None and evidence.blocks is None:
        yield "", "not_applicable", "No digests of the samples' features were given."
        return
    found, clear = [], []
    if evidence.digests is not None:
        pairs, looked_at = _equal_pairs(evidence)
        clear.append(f"No two of {looked_at} are equal across a split")
        if pairs:
            found.append(f"{len(pairs)} pairs of samples have equal features across a split: {some(pairs)}")
    if evidence.blocks is not None:
        pairs, looked_at = _near_pairs(evidence)
        clear.append(f"none of {looked_at} are nearly equal")
        if pairs:
            found.append(f"{len(pairs)} pairs are nearly equal across a split: {some(pairs)}")
    text = "; ".join(found or clear)
    yield "", "finding" if found else "pass", f"{text[0].upper()}{text[1:]}."


def permuted_labels_above_chance(evidence: Evidence) -> Iterator[Finding]:
    """CHK005 A model trained on permuted labels does better than chance.

    It has nothing to learn; if it does well, labels of the test part leak into training. Chance for
    the macro AUROC is 0.5, give or take two kinds of luck. One is which patients were tested: the standard
    error of the bootstrap. The other is the permutation, which may agree with the truth by accident, and
    where classes are well separated a model passes that on to every test sample: its spread is simulated by
    400 permutations of the training labels, read by the worst case, a model that sees the true classes
    perfectly. A finding where the estimate is above 0.5 by more than 2.58 times both together (about 1 in
    200 by luck). Where that margin reaches 0.45 (few splits, few classes) the control cannot show
    anything; more repeats help.
    """
    permuted = [
        name for name in evidence.outcomes.hypotheses if evidence.run_of.get(name, {}).get("permuted_labels")
    ]
    if not permuted:
        yield "", "not_applicable", "No run was trained on permuted labels."
        return
    draws = permuted_aurocs(evidence.samples, evidence.splits, evidence.classes, 400, evidence.seed)
    for name in permuted:
        row = evidence.row(name, "auroc_macro")
        if not np.isfinite(row["ci_low"]):
            yield name, "not_applicable", "The macro AUROC of the test samples is not defined."
            continue
        error = (row["ci_high"] - row["ci_low"]) / (2 * norm.ppf(0.975))
        margin = 2.58 * float(np.hypot(error, draws.std()))
        lucky = min(0.5 + margin, 1.0)
        found = f"Macro AUROC {interval_text(row)}; chance is 0.5, and up to {lucky:.3f} by luck."
        if margin >= 0.45:
            yield name, "not_applicable", f"{found} So few splits cannot show more; add repeats."
        else:
            yield name, "finding" if row["estimate"] > 0.5 + margin else "pass", found


def one_feature_does_it_all(evidence: Evidence) -> Iterator[Finding]:
    """CHK011 One feature alone does it all.

    A single feature that ranks the test samples of a class as well as the best hypothesis is a leak (an
    identifier, a batch, the diagnosis itself among the features), or a marker: look. In up to five
    splits of the first repeat the feature is chosen on the training part, by its AUROC for the class against the
    rest, and tried on the test part. A finding where its mean AUROC is at least 0.8 and within 0.02 of
    the best competitor's on the same samples. At most 400 training samples screen up to 200,000 features;
    the best 20 are tried on up to 2,000. Remedy: look the feature up; if it is no biology, remove it.
    """
    if evidence.blocks is None:
        yield "", "not_applicable", "The features were not given."
        return
    competing = evidence.competing()
    if not competing:
        yield "", "not_applicable", "No hypothesis that claims to have learned something was judged."
        return
    outcomes = evidence.outcomes
    n_classes = len(outcomes.classes)
    chosen_classes = [outcomes.positive] if n_classes == 2 else list(range(n_classes))
    columns = draw_features(evidence.blocks, 200_000, evidence.seed)
    alone: dict[int, list[float]] = {c: [] for c in chosen_classes}
    rivals: dict[int, list[list[float]]] = {c: [] for c in chosen_classes}
    names: dict[int, Counter[str]] = {c: Counter() for c in chosen_classes}
    first = outcomes.repeats == outcomes.repeats.min()
    for fold in np.unique(outcomes.folds[first])[:5]:
        tested = np.flatnonzero(first & (outcomes.folds == fold))
        tested = draw_rows(tested, 2_000, evidence.seed)
        features = _features_of_split(
            evidence, int(outcomes.repeats[tested[0]]), int(fold), columns, chosen_classes
        )
        rows = evidence.positions(outcomes.sample_ids[tested])
        wanted = np.unique([feature.column for feature, _ in features.values()]).astype(np.int64)
        values = read_piece(evidence.blocks, rows, pick(columns, wanted)).values
        for c, (feature, name) in features.items():
            positive = outcomes.truth[tested] == c
            if not positive.any() or positive.all():
                continue
            alone[c].append(
                auroc(positive, feature.score(values[:, np.searchsorted(wanted, feature.column)]))
            )
            rivals[c].append([auroc(positive, outcomes.probabilities[h][tested, c]) for h in competing])
            names[c][name] += 1
    found, best = [], []
    for c in chosen_classes:
        if not alone[c]:
            continue
        by_feature, by_rival = float(np.mean(alone[c])), np.mean(rivals[c], axis=0)
        rival = competing[int(by_rival.argmax())]
        name, times = names[c].most_common(1)[0]
        text = (
            f"{outcomes.classes[c]}: {name} (chosen in {times} of {len(alone[c])} splits) has AUROC "
            f"{by_feature:.3f}, {rival} {by_rival.max():.3f}"
        )
        best.append((by_feature, text))
        if by_feature >= ALONE_LEAST and by_feature >= by_rival.max() - ALONE_MARGIN:
            found.append(text)
    if found:
        yield "", "finding", f"A leak, or a marker: look. {some(found, 3)}."
    elif best:
        yield "", "pass", f"No feature alone does as well as the hypotheses; the best is for {max(best)[1]}."
    else:
        yield "", "not_applicable", "No split tests a class against another after training on both."


def consulted_more_than_once(evidence: Evidence) -> Iterator[Finding]:
    """CHK012 The test set was consulted more than once.

    Each configuration that is tried on the same test samples and then changed fits them a little; the best
    of several is better by luck. Counts the configurations in the log of looks at the test set. Looking
    again with the same configuration chooses nothing and is no finding. Remedy: report how many were tried,
    or test once more on
    samples never used. Source: Dwork 2015, doi:10.1126/science.aaa9375.
    """
    if evidence.looks is None or not len(evidence.looks):
        yield "", "not_applicable", "No log of looks at the test set was given."
        return
    n_looks, n_configs = len(evidence.looks), evidence.looks["config_digest"].nunique()
    if n_configs > 1:
        detail = f"The test set was consulted {n_looks} times with {n_configs} configurations: the best is flattered."
        yield "", "finding", detail
    else:
        times = "once" if n_looks == 1 else f"{n_looks} times"
        yield "", "pass", f"The test set was consulted {times}, with one configuration."


def _with_patients(evidence: Evidence) -> pd.DataFrame:
    return evidence.splits.merge(evidence.samples[["sample_id", "patient_id", "label"]], on="sample_id")


def _across_a_split(evidence: Evidence, pairs: pd.DataFrame) -> list[tuple[str, str]]:
    """Keep the pairs (columns a and b of sample ids) of which some split tests one and trains the other."""
    named = set(pairs["a"]) | set(pairs["b"])
    splits = evidence.splits[evidence.splits["sample_id"].isin(named)][
        ["repeat", "fold", "sample_id", "role"]
    ]
    both = pairs.merge(splits, left_on="a", right_on="sample_id").merge(
        splits,
        left_on=["b", "repeat", "fold"],
        right_on=["sample_id", "repeat", "fold"],
        suffixes=("_a", "_b"),
    )
    both = both[(both["role_a"] == "test") != (both["role_b"] == "test")]
    return sorted(set(both[["a", "b"]].itertuples(index=False, name=None)))


def _equal_pairs(evidence: Evidence) -> tuple[list[str], str]:
    """Find samples with equal rows in a block across a split, and say how much was compared."""
    used = evidence.digests["sample_id"].isin(evidence.splits["sample_id"].unique())
    digests = evidence.digests[used]
    if "block" not in digests.columns:
        digests = digests.assign(block="")
    patients = evidence.samples.set_index("sample_id")["patient_id"]
    rows = dict(zip(patients.index, range(len(patients)), strict=True))
    pairs, n_alike = equal_rows(digests, patients, rows, evidence.blocks)
    blocks = pairs.groupby(["a", "b"])["block"].agg(list)
    named = [
        f"{a} = {b}" + (f" ({some(blocks[a, b])})" if any(blocks[a, b]) else "")
        for a, b in _across_a_split(evidence, pairs[["a", "b"]].drop_duplicates())
    ]
    n_blocks = digests["block"].nunique()
    looked_at = f"{digests['sample_id'].nunique()} samples"
    if n_blocks > 1:
        looked_at += f" in {n_blocks} blocks"
    if n_alike:
        looked_at += f" ({n_alike} share rows too bare to tell patients apart)"
    return named, looked_at


def _near_pairs(evidence: Evidence) -> tuple[list[str], str]:
    """Find nearly equal samples across a split, and say how much was looked at."""
    used = np.sort(evidence.positions(evidence.splits["sample_id"].unique()))
    rows = draw_rows(used, 8_000, evidence.seed)
    piece = read_piece(evidence.blocks, rows, draw_features(evidence.blocks, 2_000, evidence.seed))
    _, patients = np.unique(evidence.samples["patient_id"].astype(str).to_numpy()[rows], return_inverse=True)
    found = near_duplicates(piece.values, patients)
    ids = evidence.samples["sample_id"].astype(str).to_numpy()[rows]
    pairs = pd.DataFrame([(ids[i], ids[j], r) for i, j, r in found], columns=["a", "b", "r"])
    correlation = {(a, b): r for a, b, r in pairs.itertuples(index=False)}
    across = _across_a_split(evidence, pairs[["a", "b"]])
    named = [f"{a} ~ {b} (correlation {correlation[a, b]:.3f})" for a, b in across]
    return named, extent(len(rows), len(used), piece)


def _features_of_split(
    evidence: Evidence, repeat: int, fold: int, columns: dict[str, np.ndarray], classes: list[int]
) -> dict[int, tuple[SingleFeature, str]]:
    """Choose each class's best feature on the training part: (feature, its name)."""
    splits = evidence.splits
    here = (splits["repeat"] == repeat) & (splits["fold"] == fold) & (splits["role"] == "train")
    trained = draw_rows(evidence.positions(splits.loc[here, "sample_id"]), 2_000, evidence.seed)
    label = pd.Index(evidence.classes).get_indexer(evidence.samples["label"].astype(str))
    some_rows = draw_rows(trained, 400, evidence.seed)
    hot = label[some_rows][:, None] == np.array(classes)
    usable = [k for k in range(len(classes)) if hot[:, k].any() and not hot[:, k].all()]
    if not usable:
        return {}
    screen = read_piece(evidence.blocks, some_rows, columns)
    if not screen.values.shape[1]:
        return {}
    areas = np.nan_to_num(feature_aurocs(screen.values, hot[:, usable]), nan=0.5)
    lists = [short_list(row) for row in areas]
    union = np.unique(np.concatenate(lists))
    more = read_piece(evidence.blocks, trained, pick(columns, union)).values
    chosen = {}
    for k, listed in zip(usable, lists, strict=True):
        at = np.searchsorted(union, listed)
        feature = choose_feature(more[:, at], label[trained] == classes[k], listed)
        chosen[classes[k]] = feature, screen.names[feature.column]
    return chosen
