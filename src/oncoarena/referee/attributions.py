"""Where hypotheses look: attributions of all splits pooled by feature, and how far two hypotheses agree.

An attribution says what a model used, which need not be what causes the disease.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import hypergeom, rankdata

from oncoarena.errors import InputError
from oncoarena.genomes import CHROMOSOMES
from oncoarena.referee.comparison import holm

TOP = 20
"""How many features are called the top ones."""

FEATURES_MOST = 20_000
"""The most features of a hypothesis and label that are kept: what bounds the tables."""

FEATURE = ("chrom", "start", "end", "gene")

POOLED_COLUMNS = (
    "hypothesis",
    "label",
    "block",
    "feature",
    *FEATURE,
    "importance",
    "sd",
    "direction",
    "n_folds",
    "top_share",
    "expected_top_share",
    "rank",
)

AGREEMENT_COLUMNS = (
    "first",
    "second",
    "block",
    "n_features",
    "spearman",
    "spearman_p",
    "overlap",
    "expected_overlap",
    "p_value",
    "p_holm",
)

POOLING_METHOD = (
    "In each split the mean absolute contribution of a feature to the logits of the test samples is divided by the "
    "sum over all features that the split lists (at most 20,000). Importance is the mean of these shares over the "
    "splits; a feature that a split does not list counts 0 there. The top 20 of a split are its largest that are not "
    "0; a tie for the last places shares them. Chance is what a random ranking of all features of the blocks would "
    "give. Direction is the correlation of a feature's contributions with its values over the test samples, in the "
    "mean over splits: 1 where high values always speak for the class, \N{MINUS SIGN}1 where low ones do."
)
AGREEMENT_METHOD = (
    "The overlap counts features in the top 20 of both; its p is that of at least as many in random lists of the same "
    "lengths (hypergeometric), Holm-adjusted over all pairs and blocks. Spearman's correlation is over all features of "
    "the block; its p compares it with every rotation of one ranking against the other along the block's features, "
    "which leaves neighbours on the genome neighbours. Features that rise and fall together can stand in for one "
    "another: two hypotheses may use one signal through different features."
)


def attribution_tables(
    tables: Iterable[pd.DataFrame],
    features: Mapping[str, pd.DataFrame],
    blocks: Mapping[str, Sequence[str]],
) -> dict[str, pd.DataFrame]:
    """Pool what hypotheses say of themselves and compare them.

    Parameters: ``tables``, one a hypothesis, as of ``pool``, of which one at a time is held; ``features``, the
    feature table of every block (see ``cohort.feature_table``); ``blocks``, those that each hypothesis saw.
    Returns the tables attributions and attribution_agreement, empty where there is nothing to pool.
    """
    pooled = [pool(table, features, blocks) for table in tables if len(table)]
    joined = pd.concat(pooled, ignore_index=True) if pooled else pd.DataFrame(columns=list(POOLED_COLUMNS))
    return {"attributions": joined, "attribution_agreement": agreement(joined, features)}


def pool(
    table: pd.DataFrame, features: Mapping[str, pd.DataFrame], blocks: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Pool one hypothesis's attributions over its splits.

    Parameters: ``table`` with the columns hypothesis, repeat, fold, label ("" for all classes together), block,
    feature, mean_abs and, where known, correlation, a row a feature and split; then as of ``attribution_tables``.
    Returns ``POOLED_COLUMNS``, each label's most important first: importance (mean share of a split's total) with its
    standard deviation over splits (NaN of one split), direction (mean correlation of contribution and value; NaN for
    "" and where none is known), n_folds (splits that explain), top_share and expected_top_share (share of splits with
    the feature among the top ``TOP``, and by chance) and rank.
    Raises InputError if a feature is none of its block's.
    """
    hypothesis = str(table["hypothesis"].iloc[0])
    names = list(blocks[hypothesis])
    offsets = dict(
        zip(names, np.cumsum([0, *(len(features[name]) for name in names)]).tolist(), strict=False)
    )
    n_features = sum(len(features[name]) for name in names)
    position = _positions(table, features, offsets)
    fold = table.groupby(["repeat", "fold"], sort=True).ngroup().to_numpy()
    n_folds = int(fold.max()) + 1
    size = table["mean_abs"].to_numpy(np.float64)
    unknown = np.full(len(table), np.nan)
    leaning = table["correlation"].to_numpy(np.float64) if "correlation" in table else unknown
    found = []
    for label, rows in table.groupby("label", sort=True).indices.items():
        kept = _pool_label(fold[rows], position[rows], size[rows], leaning[rows], n_folds, n_features)
        kept.insert(0, "label", label)
        found.append(kept)
    pooled = pd.concat(found, ignore_index=True)
    known = pd.concat([features[name].assign(block=name) for name in names], ignore_index=True)
    known = known.iloc[pooled.pop("position")].reset_index(drop=True)
    pooled = pooled.assign(
        hypothesis=hypothesis,
        block=known["block"],
        feature=known["id"],
        **{name: known[name] for name in FEATURE},
        n_folds=n_folds,
        expected_top_share=min(1.0, TOP / n_features),
    )
    return pooled[list(POOLED_COLUMNS)]


def _positions(
    table: pd.DataFrame, features: Mapping[str, pd.DataFrame], offsets: Mapping[str, int]
) -> np.ndarray:
    """Number the features of a table across the blocks (n_rows,)."""
    position = np.empty(len(table), dtype=np.int64)
    for name, rows in table.groupby("block").indices.items():
        given = table["feature"].iloc[rows]
        found = (
            pd.Index(features[name]["id"]).get_indexer(given) if name in offsets else np.full(len(rows), -1)
        )
        if (found < 0).any():
            raise InputError(
                f"attributions of {table['hypothesis'].iloc[0]}: {given.iloc[int(found.argmin())]!r} is no feature of "
                f"the blocks that it saw (block {name}). The run is of other blocks: train it again"
            )
        position[rows] = offsets[name] + found
    return position


def _pool_label(
    fold: np.ndarray,
    position: np.ndarray,
    size: np.ndarray,
    leaning: np.ndarray,
    n_folds: int,
    n_features: int,
) -> pd.DataFrame:
    """Pool the rows of one label: position, importance, sd, direction, top_share and rank, the largest first."""

    def gather(values: np.ndarray) -> np.ndarray:
        return np.bincount(position, values, n_features)

    totals = np.bincount(fold, size, n_folds)[fold]
    share = np.divide(size, totals, out=np.zeros_like(size), where=totals > 0)
    importance = gather(share) / n_folds
    n_listed = np.bincount(position, minlength=n_features)
    # Splits that do not list a feature are as far from its mean as 0 is.
    squares = gather((share - importance[position]) ** 2) + (n_folds - n_listed) * importance**2
    sd = np.sqrt(squares / (n_folds - 1)) if n_folds > 1 else np.full(n_features, np.nan)
    top = gather(_share_of_places(fold, share, n_folds)) / n_folds
    listed = np.flatnonzero(n_listed)
    listed = listed[np.argsort(-importance[listed], kind="stable")][:FEATURES_MOST]
    return pd.DataFrame(
        {
            "position": listed,
            "importance": importance[listed],
            "sd": sd[listed],
            "direction": gather(leaning)[listed] / n_listed[listed],
            "top_share": top[listed],
            "rank": rankdata(-importance[listed], method="min").astype(np.int64),
        }
    )


def _share_of_places(fold: np.ndarray, share: np.ndarray, n_folds: int) -> np.ndarray:
    """Say how far each row is among the top of its split: 1, 0, or part of the last places where values tie."""
    places = np.zeros(len(share))
    for number in range(n_folds):
        rows = np.flatnonzero((fold == number) & (share > 0))
        if len(rows) <= TOP:
            places[rows] = 1.0
            continue
        values = share[rows]
        last = np.partition(values, -TOP)[-TOP]
        above, tied = values > last, values == last
        places[rows] = above + tied * (TOP - above.sum()) / tied.sum()
    return places


def agreement(attributions: pd.DataFrame, features: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Compare every pair of hypotheses in every block that both used, all classes together.

    Parameters: ``attributions`` as of ``pool``, of any number of hypotheses; ``features`` of every block.
    Returns ``AGREEMENT_COLUMNS``: Spearman's correlation of the importances over all features of the block (NaN where
    one of the two has no ranking) and the share of rotations with one as high; how many features are among the top
    ``TOP`` of both, how many would be by chance, the hypergeometric p of as many, and Holm's over all rows.
    Source: hypergeometric test, doi:10.1186/1471-2105-10-48; rotations, doi:10.32614/CRAN.package.shiftR.
    """
    overall = attributions[attributions["label"] == ""]
    rows = []
    for block, part in overall.groupby("block", sort=False):
        table = features[block]
        ids, order = pd.Index(table["id"]), genome_order(table)
        vectors = {}
        for name, mine in part.groupby("hypothesis", sort=False):
            vector = np.zeros(len(table))
            vector[ids.get_indexer(mine["feature"])] = mine["importance"]
            vectors[str(name)] = vector[order]
        ranks = {name: rankdata(vector) for name, vector in vectors.items()}
        for first, second in combinations(vectors, 2):
            common = count_common_top(vectors[first], vectors[second])
            rows.append(
                (first, second, block, len(table), *rotated_correlation(ranks[first], ranks[second]), *common)
            )
    found = pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS[:-1]))
    return found.assign(p_holm=holm(found["p_value"].to_numpy(np.float64)))


def genome_order(table: pd.DataFrame) -> np.ndarray:
    """Order features along the genome (n_features,); those of no known chromosome come last, as they were."""
    place = {name: number for number, name in enumerate(CHROMOSOMES)}
    chromosome = table["chrom"].map(lambda name: place.get(name, len(place))).to_numpy(np.int64)
    start = np.where(chromosome < len(place), table["start"], 0)
    return np.lexsort((start, chromosome))


def rotated_correlation(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Correlate two vectors (n,), and compare with every rotation of one against the other.

    Returns (correlation, share of the n rotations, itself included, with one at least as high); NaN where a vector is
    constant. All rotations together take one convolution.
    """
    a, b = first - first.mean(), second - second.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    if not norm > 0:
        return np.nan, np.nan
    turned = np.fft.irfft(np.fft.rfft(a) * np.conj(np.fft.rfft(b)), len(a)) / norm
    # The allowance counts ties that rounding would part.
    return float(a @ b / norm), float((turned >= turned[0] - 1e-9).mean())


def count_common_top(first: np.ndarray, second: np.ndarray) -> tuple[int, float, float]:
    """Count the features that are among the top ``TOP`` of both vectors of importances (n_features,).

    Features of no importance are never at the top; of those that tie for the last place the first come in.
    Returns (overlap, expected by chance, probability of at least that many by chance; NaN where a list is empty).
    """
    tops = []
    for vector in (first, second):
        top = np.argsort(-vector, kind="stable")[:TOP]
        tops.append(top[vector[top] > 0])
    n, sizes = len(first), [len(top) for top in tops]
    overlap = len(np.intersect1d(*tops))
    p = float(hypergeom.sf(overlap - 1, n, *sizes)) if min(sizes) else np.nan
    return overlap, sizes[0] * sizes[1] / n, p
