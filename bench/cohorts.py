"""Every claim and baseline on real cohorts, under the same splits and protocol.

    snakemake --cores 1 resources/srbct/samples.tsv resources/nci60/samples.tsv
    python bench/cohorts.py OUT srbct
    python bench/cohorts.py OUT nci60 --repeats 5 [HYPOTHESIS ...]
    python bench/cohorts.py OUT TABLE.tsv --sample sample --label status [--blocks coverage_ amplitude_]

``srbct`` has the authors' split into 63 and 20; all else is dealt to ``--folds`` folds, ``--repeats`` times. Hypotheses
choose whatever they choose on inner folds of the training part. Each runs in a process of its own, with one thread;
predictions already in OUT (one JSON line a fit) are kept, so that a stopped run goes on. The table is the referee's:
estimates and 95 % intervals as in every report (``evaluation.ESTIMAND``); seconds are medians over fits.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from side_by_side import BASELINES, CLAIMS, append_line, fit, read_lines, run_each, training_spec

from oncoarena import compute
from oncoarena.cohort import Block, BlockSpec, LabelledCohort, feature_table
from oncoarena.errors import NotApplicable
from oncoarena.referee.evaluation import evaluate
from oncoarena.referee.outcomes import join_outcomes
from oncoarena.referee.predictions import collect, prediction_table
from oncoarena.splits import SplitPlan, make_splits

COLUMNS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "log_loss": "log loss",
    "auroc_macro": "AUROC",
}


def read_demo(cohort: str) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Read a demo cohort: its sheet, and its block as a table of samples x genes."""
    folder = Path("resources") / cohort
    samples = pd.read_csv(folder / "samples.tsv", sep="\t", dtype=str, keep_default_na=False)
    if cohort == "srbct":
        values = pd.read_csv(folder / "expression.tsv.gz", sep="\t", index_col=0).T
    else:
        values = pd.read_parquet(folder / "expression.parquet").set_index("sample_id")
    return samples, {"expression": values.loc[samples["sample_id"]]}


def read_table(options: argparse.Namespace) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Read a table of one row a sample: the sheet, and the features of each block."""
    table = pd.read_csv(options.cohort, sep="\t", dtype={options.sample: str, options.label: str})
    sheet = {"sample_id": table[options.sample], "label": table[options.label]}
    samples = pd.DataFrame(sheet | {"patient_id": table[options.patient or options.sample].astype(str)})
    if options.blocks:
        names = {prefix: [c for c in table.columns if c.startswith(prefix)] for prefix in options.blocks}
    else:
        others = {options.sample, options.label, options.patient}
        names = {"features": [c for c in table.columns if c not in others]}
    return samples, {block: table[columns] for block, columns in names.items()}


def read_cohort(options: argparse.Namespace) -> tuple[pd.DataFrame, LabelledCohort, pd.DataFrame]:
    """Return the sheet, the whole cohort with its labels, and every split."""
    is_demo = options.cohort in ("srbct", "nci60")
    samples, tables = read_demo(options.cohort) if is_demo else read_table(options)
    blocks = {}
    for name, values in tables.items():
        spec = BlockSpec(name, ("sample", "feature"), "float32", "as in the file", f"{name} of a benchmark")
        features = feature_table([str(column) for column in values.columns])
        blocks[name] = Block(spec, np.ascontiguousarray(values.to_numpy(dtype=np.float32)), features)
    classes = tuple(sorted(samples["label"].unique()))
    cohort = LabelledCohort(
        samples["sample_id"].to_numpy(dtype=str),
        samples["patient_id"].to_numpy(dtype=str),
        blocks,
        labels=pd.Index(classes).get_indexer(samples["label"]).astype(np.int64),
        classes=classes,
    )
    scheme = "official" if options.cohort == "srbct" else "kfold"
    plan = SplitPlan(scheme, folds=options.folds, repeats=options.repeats)
    return samples, cohort, make_splits(samples, plan)


def fit_all(hypothesis: str, options: argparse.Namespace) -> None:
    """Fit one hypothesis on every split that OUT has no predictions of; append a line for each."""
    spec = training_spec(hypothesis)
    _, cohort, splits = read_cohort(options)
    done = {(row["hypothesis"], row["repeat"], row["fold"]) for row in read_lines(options.out)}
    for (repeat, fold), split in splits.groupby(["repeat", "fold"]):
        if (hypothesis, repeat, fold) in done:
            continue
        train, test = (
            cohort.take(pd.Index(cohort.sample_ids).get_indexer(split["sample_id"][split["role"] == role]))
            for role in ("train", "test")
        )
        row = {"hypothesis": hypothesis, "repeat": int(repeat), "fold": int(fold)}
        try:
            seed = compute.spawn_seed(1, hypothesis, int(repeat), int(fold))
            predictor, row["seconds"] = fit(spec, train, seed)
            row["samples"] = test.sample_ids.tolist()
            row["probabilities"] = predictor.predict_proba(test.without_labels()).tolist()
        except NotApplicable as reason:
            row["refused"] = str(reason)
        append_line(options.out, row)


def show(options: argparse.Namespace) -> None:
    """Print the table as Markdown, the lowest log loss first, and what was refused or is not finished."""
    samples, cohort, splits = read_cohort(options)
    planned = set(zip(splits["repeat"], splits["fold"], strict=True))
    by_name: dict[str, list[dict]] = {}
    for row in read_lines(options.out):
        if (row["repeat"], row["fold"]) in planned:
            by_name.setdefault(row["hypothesis"], []).append(row)
    remarks, tables, seconds = [], [], {}
    for name, fits in by_name.items():
        refused = [row["refused"] for row in fits if "refused" in row]
        if refused or len(fits) < len(planned):
            done = f"{len(fits)} of {len(planned)} splits are done"
            remarks.append(f"{name}: {refused[0] if refused else done}")
            continue
        seconds[name] = np.median([row["seconds"] for row in fits])
        for row in fits:
            where = name, row["repeat"], row["fold"], row["samples"]
            tables.append(prediction_table(*where, row["probabilities"], cohort.classes))
    if tables:
        predictions = collect(tables, splits, cohort.classes)
        outcomes = join_outcomes(predictions, samples, splits, cohort.classes)
        results = evaluate(outcomes, pd.DataFrame(index=range(len(outcomes.truth))), options.bootstrap, 1)
        found = results.set_index(["hypothesis", "metric"])
        print("| hypothesis | " + " | ".join(COLUMNS.values()) + " | seconds a fit |")
        print("|---" * (len(COLUMNS) + 2) + "|")
        for name in sorted(seconds, key=lambda name: found.loc[(name, "log_loss"), "estimate"]):
            cells = [_cell(found.loc[(name, metric)]) for metric in COLUMNS]
            print(f"| {name} | " + " | ".join(cells) + f" | {seconds[name]:.1f} |")
    print("".join(f"\n{remark}" for remark in remarks))


def _cell(row: pd.Series) -> str:
    return f"{row['estimate']:.3f} ({row['ci_low']:.3f} to {row['ci_high']:.3f})"


def main() -> None:
    """Fit, then print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="JSON lines, of one cohort and one way to split it")
    parser.add_argument("cohort", help="srbct, nci60, or a tab-separated file with a row a sample")
    parser.add_argument("hypotheses", nargs="*", default=[*CLAIMS, *BASELINES])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--bootstrap", type=int, default=2000)
    parser.add_argument("--sample", default="sample_id", help="column of the file")
    parser.add_argument("--patient", help="column of the file; without it a sample is a patient")
    parser.add_argument("--label", default="label", help="column of the file")
    parser.add_argument(
        "--blocks",
        nargs="+",
        help="how the features' names begin, a block each; without it, all other columns",
    )
    options = parser.parse_intermixed_args()
    run_each(fit_all, options.hypotheses, options)
    show(options)


if __name__ == "__main__":
    main()
