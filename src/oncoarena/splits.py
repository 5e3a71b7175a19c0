"""Who trains and who is tested: every split of a study, decided once, for all hypotheses alike."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from oncoarena import store
from oncoarena.errors import InputError

COLUMNS = ("repeat", "fold", "sample_id", "role")
ROLES = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitPlan:
    """How a study splits its samples (config key ``splits``)."""

    scheme: str
    folds: int = 5
    repeats: int = 1
    seed: int = 0
    table: str | None = None
    validation_fraction: float = 0.0
    parts: int = 1
    """Training jobs that the splits of one hypothesis are dealt to."""

    def min_patients(self) -> int:
        """The least number of patients that every label needs: one a fold, or one to train and one to test."""
        return self.folds if self.scheme == "kfold" else 2

    def columns(self) -> tuple[str, ...]:
        """Columns of the sheet that the scheme reads."""
        return {"official": ("split",), "leave_one_site_out": ("site",)}.get(self.scheme, ())


def deal_folds(labels: np.ndarray, groups: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Deal samples into folds, whole groups (patients) at a time, stratified by label.

    A group's stratum is the set of its labels. The groups of a stratum are shuffled and dealt to the
    folds that hold the fewest samples of that stratum, then the fewest samples, so each fold has its
    share of every label to within one group.

    Parameters: ``labels`` (n_samples,), ``groups`` (n_samples,), ``n_folds`` at least 2.
    Returns (n_samples,) int64 fold numbers, 0 to n_folds - 1.
    Raises ValueError if there are fewer groups than folds.
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    group_of, strata = _strata(labels, groups)
    size = np.bincount(group_of)
    if len(size) < n_folds:
        raise ValueError(f"{n_folds} folds need at least {n_folds} patients, found {len(size)}")
    fold_of_group = np.empty(len(size), dtype=np.int64)
    total = np.zeros(n_folds, dtype=np.int64)
    for members in strata:
        in_stratum = np.zeros(n_folds, dtype=np.int64)
        shuffled = rng.permutation(members)
        # Large groups first: what is dealt last must be small to even the folds out.
        for group in shuffled[np.argsort(-size[shuffled], kind="stable")]:
            tie_break = rng.permutation(n_folds)
            fold = tie_break[np.lexsort((total[tie_break], in_stratum[tie_break]))[0]]
            fold_of_group[group] = fold
            in_stratum[fold] += size[group]
            total[fold] += size[group]
    return fold_of_group[group_of]


def _strata(labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
    """Number the groups (n_samples,) and list those of each stratum; a group's stratum is the set of its labels."""
    names, group_of = np.unique(groups, return_inverse=True)
    _, label_codes = np.unique(labels, return_inverse=True)
    pairs = np.unique(np.stack([group_of, label_codes], axis=1), axis=0)
    label_sets: list[list[int]] = [[] for _ in names]
    for group, label in pairs:
        label_sets[group].append(int(label))
    members: dict[tuple[int, ...], list[int]] = {}
    for group, label_set in enumerate(label_sets):
        members.setdefault(tuple(label_set), []).append(group)
    return group_of, [members[stratum] for stratum in sorted(members)]


def make_splits(samples: pd.DataFrame, plan: SplitPlan) -> pd.DataFrame:
    """Decide every split of a study.

    Parameters: ``samples`` as read by ``samples.read_samples``.
    Returns columns ``COLUMNS``: one row for every sample that takes part in a split, in the sheet's order
    within a split. No patient is on both sides of a split.
    Raises InputError where the sheet cannot carry the scheme.
    """
    makers = {
        "kfold": _kfold,
        "official": _official,
        "leave_one_site_out": _leave_one_site_out,
        "table": _from_table,
    }
    splits = makers[plan.scheme](samples, plan)
    _check_sides(splits, samples, plan)
    if plan.validation_fraction:
        splits = _reserve_validation(splits, samples, plan)
    return splits[list(COLUMNS)].reset_index(drop=True)


def split_id(repeat: int, fold: int) -> str:
    """Name a split for files and messages, e.g. ``r00f03``."""
    return f"r{repeat:02d}f{fold:02d}"


def _kfold(samples: pd.DataFrame, plan: SplitPlan) -> pd.DataFrame:
    labels, patients = samples["label"].to_numpy(), samples["patient_id"].to_numpy()
    tables = []
    for repeat, child in enumerate(np.random.SeedSequence(plan.seed).spawn(plan.repeats)):
        fold_of = deal_folds(labels, patients, plan.folds, np.random.default_rng(child))
        for fold in range(plan.folds):
            tables.append(_one_split(samples, repeat, fold, fold_of == fold))
    return pd.concat(tables)


def _official(samples: pd.DataFrame, plan: SplitPlan) -> pd.DataFrame:
    # A sample with neither role takes no part; the report's flow of samples counts it.
    taking_part = samples[samples["split"] != ""]
    return _one_split(taking_part, 0, 0, (taking_part["split"] == "test").to_numpy())


def _leave_one_site_out(samples: pd.DataFrame, plan: SplitPlan) -> pd.DataFrame:
    named = samples[samples["site"] != ""]
    sites = sorted(named["site"].unique())
    if len(sites) < 2:
        raise InputError(
            f"sample sheet: column 'site' holds {len(sites)} site(s); leave_one_site_out needs at least two"
        )
    spread = named.groupby("patient_id")["site"].nunique()
    if (spread > 1).any():
        raise InputError(
            f"sample sheet: patient {spread.index[spread > 1][0]!r} has samples from several sites; with "
            "leave_one_site_out that patient would be in train and test: name one site, or use kfold"
        )
    return pd.concat(
        _one_split(named, 0, fold, (named["site"] == site).to_numpy()) for fold, site in enumerate(sites)
    )


def _from_table(samples: pd.DataFrame, plan: SplitPlan) -> pd.DataFrame:
    uri = plan.table
    with store.open_input(uri) as stream:
        try:
            table = pd.read_csv(stream, sep="\t", dtype=str, keep_default_na=False)
        except (ValueError, UnicodeDecodeError) as error:
            raise InputError(
                f"{uri}: cannot be read as tab-separated text with the columns {', '.join(COLUMNS)} ({error})"
            ) from error
    absent = [name for name in COLUMNS if name not in table.columns]
    if absent:
        raise InputError(f"{uri}: column {absent[0]!r} is missing; expected {', '.join(COLUMNS)}")
    if table.empty:
        raise InputError(f"{uri}: has no rows; expected a row for each sample of each split")
    for name in ("repeat", "fold"):
        bad = table.index[~table[name].str.fullmatch(r"[0-9]{1,4}")]
        if len(bad):
            raise InputError(
                f"{uri}: row {bad[0] + 2}: column {name!r}: found {table[name][bad[0]]!r}, expected a whole "
                "number from 0"
            )
        table[name] = table[name].astype("int64")
    for name, legal in (("role", set(ROLES)), ("sample_id", set(samples["sample_id"]))):
        bad = table.index[~table[name].isin(legal)]
        if len(bad):
            expected = "one of " + ", ".join(ROLES) if name == "role" else "a sample_id of the sample sheet"
            raise InputError(
                f"{uri}: row {bad[0] + 2}: column {name!r}: found {table[name][bad[0]]!r}, expected {expected}"
            )
    twice = table.index[table.duplicated(["repeat", "fold", "sample_id"])]
    if len(twice):
        raise InputError(
            f"{uri}: row {twice[0] + 2}: sample {table['sample_id'][twice[0]]!r} is in its split twice; keep one row"
        )
    retested = table[table["role"] == "test"]
    twice = retested.index[retested.duplicated(["repeat", "sample_id"])]
    if len(twice):
        raise InputError(
            f"{uri}: row {twice[0] + 2}: sample {table['sample_id'][twice[0]]!r} is a test sample of two folds of "
            "one repeat; give the second fold another repeat number"
        )
    return table.sort_values(["repeat", "fold"], kind="stable")


def _one_split(samples: pd.DataFrame, repeat: int, fold: int, is_test: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "repeat": np.int64(repeat),
            "fold": np.int64(fold),
            "sample_id": samples["sample_id"].array,
            "role": np.where(is_test, "test", "train"),
        }
    )


def _check_sides(splits: pd.DataFrame, samples: pd.DataFrame, plan: SplitPlan) -> None:
    """Refuse a split in which a patient trains and is tested, a side is empty, or one label trains alone."""
    where = plan.table if plan.scheme == "table" else "sample sheet"
    # By numbers, not names: a million samples in five folds are five million rows.
    row_of = pd.Index(samples["sample_id"]).get_indexer(splits["sample_id"])
    patient_of, patients = pd.factorize(samples["patient_id"])
    label_of, labels = pd.factorize(samples["label"])
    tested = (splits["role"] == "test").to_numpy()
    trains = (splits["role"] == "train").to_numpy()
    for (repeat, fold), rows in splits.groupby(["repeat", "fold"]).indices.items():
        is_test, members = tested[rows], row_of[rows]
        name = f"{where}: repeat {repeat}, fold {fold}"
        if is_test.all() or not is_test.any():
            empty = "training" if is_test.all() else "test"
            raise InputError(f"{name}: has no {empty} sample; a split needs both sides")
        sides = np.zeros((2, len(patients)), dtype=bool)
        sides[is_test.astype(int), patient_of[members]] = True
        both = np.flatnonzero(sides.all(axis=0))
        if len(both):
            raise InputError(
                f"{name}: patient {min(patients[both])!r} is in train and in test; put all samples of a patient on one "
                "side"
            )
        trained = sorted(labels[np.unique(label_of[members[trains[rows]]])])
        if len(trained) < 2:
            raise InputError(
                f"{name}: its training part holds only {trained or 'no label'}; a classifier needs at least two labels"
            )


def _reserve_validation(splits: pd.DataFrame, samples: pd.DataFrame, plan: SplitPlan) -> pd.DataFrame:
    """Turn a patient-grouped, stratified share of every training part into its validation part."""
    known = splits.merge(samples[["sample_id", "patient_id", "label"]], on="sample_id", how="left")
    roles = known["role"].to_numpy(dtype=object).copy()
    for (repeat, fold), split in known.groupby(["repeat", "fold"]):
        if (split["role"] == "validation").any():
            continue
        train = split[split["role"] == "train"]
        rng = np.random.default_rng([plan.seed, int(repeat), int(fold)])
        labels, patients = train["label"].to_numpy(), train["patient_id"].to_numpy()
        held = take_share(labels, patients, plan.validation_fraction, rng)
        if not held.any():
            raise InputError(
                f"repeat {repeat}, fold {fold}: splits.validation_fraction {plan.validation_fraction:g} leaves no "
                f"patient for validation: the training part has {len(np.unique(patients))} patients of "
                f"{len(np.unique(labels))} labels, and one of each must train; add patients or remove the key"
            )
        roles[train.index[held]] = "validation"
    return splits.assign(role=roles)


def take_share(labels: np.ndarray, groups: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a share of the groups (patients), stratified by label as in ``deal_folds``: (n_samples,) bool.

    Each stratum gives its share rounded up or down, whichever keeps the sum over strata nearer the whole's share; of
    two groups or more at least one is given and one is kept, and a stratum of one group keeps it.
    """
    group_of, strata = _strata(labels, groups)
    taken = np.zeros(len(np.unique(group_of)), dtype=bool)
    n_seen = 0
    for members in strata:
        n_seen += len(members)
        # What rounding left over in one stratum the next one gives.
        wanted = np.floor(share * n_seen + 0.5) - taken.sum()
        own = share * len(members)
        wanted = max(1, np.clip(wanted, np.floor(own), np.ceil(own)))
        taken[rng.permutation(members)[: int(min(wanted, len(members) - 1))]] = True
    return taken[group_of]
