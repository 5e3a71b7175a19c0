"""Each claim in each world: who finds which planted signal, over many seeds.

    python bench/worlds.py OUT [--seeds 20] [--strengths 0 3] [--train 100] [--test 400] [--genes 1000] [HYPOTHESIS ...]

A world says where the signal lies (see ``oncoarena simulate expression --help``); at one strength an oracle that knows
the truth does equally well in all of them. For each seed and world one cohort is drawn; every hypothesis learns from
the same ``--train`` patients and predicts the same ``--test`` others. Each hypothesis runs in a process of its own,
with one thread; figures already in OUT (one JSON line a fit) are kept, so that a stopped run goes on.
Printed for each strength: mean AUROC over seeds with its 95 % t interval, and for each claim the difference to the best
of the others, seed by seed, with its interval.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from side_by_side import append_line, fit, read_lines, run_each, training_spec

from oncoarena.cohort import Block, BlockSpec, Cohort, LabelledCohort, feature_table
from oncoarena.simulation.expression import simulate_expression
from oncoarena.simulation.worlds import WORLDS

CLAIM_OF = {
    "diffuse": "wide_deep",
    "local": "genome_neighbours",
    "sparse": "sparse_markers",
    "cluster": "patient_similarity",
}
"""The claim whose world it is."""

SPEC = BlockSpec("expression", ("sample", "gene"), "float32", "log2", "simulated expression")


def draw(
    world: str, strength: float, seed: int, n_train: int, n_test: int, n_genes: int
) -> tuple[LabelledCohort, Cohort, np.ndarray]:
    """Draw a cohort; return its training part, its unlabelled test part and the test part's labels."""
    rng = np.random.default_rng([seed, WORLDS.index(world), round(100 * strength)])
    drawn = simulate_expression(
        rng, n_patients=n_train + n_test, n_genes=n_genes, strength=strength, world=world
    )
    order = rng.permutation(n_train + n_test)
    names = [f"g{row}" for row in range(n_genes)]
    features = feature_table(names, *(drawn.genes[name].tolist() for name in ("chrom", "start", "end")))
    ids = np.array([f"s{row:05d}" for row in range(n_train + n_test)])

    def part(rows: np.ndarray) -> dict:
        return {
            "sample_ids": ids[rows],
            "patient_ids": ids[rows],
            "blocks": {"expression": Block(SPEC, drawn.values[rows], features)},
            "covariates": pd.DataFrame(index=range(len(rows))),
        }

    train, test = order[:n_train], order[n_train:]
    labelled = LabelledCohort(**part(train), labels=drawn.labels[train], classes=("a", "b"))
    return labelled, Cohort(**part(test)), drawn.labels[test]


def auroc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Mann-Whitney's share of pairs in order."""
    ranks = stats.rankdata(scores)
    n_positive = truth.sum()
    above = ranks[truth == 1].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * (len(truth) - n_positive)))


def fit_all(hypothesis: str, options: argparse.Namespace) -> None:
    """Fit one hypothesis on every cohort that OUT has no figure of; append a line for each."""
    spec = training_spec(hypothesis)
    done = {
        (row["hypothesis"], row["world"], row["strength"], row["seed"]) for row in read_lines(options.out)
    }
    for seed in range(options.seeds):
        for strength in options.strengths:
            for world in WORLDS:
                if (hypothesis, world, strength, seed) in done:
                    continue
                size = options.train, options.test, options.genes
                train, test, truth = draw(world, strength, seed, *size)
                predictor, seconds = fit(spec, train, seed)
                area = auroc(truth, predictor.predict_proba(test)[:, 1])
                row = {"hypothesis": hypothesis, "world": world, "strength": strength, "seed": seed}
                row |= {"auroc": area, "seconds": seconds}
                append_line(options.out, row)


def interval(values: np.ndarray) -> str:
    """Say a mean and its 95 % t interval."""
    if len(values) < 2:
        return f"{values.mean():.3f}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} ({values.mean() - half:.3f} to {values.mean() + half:.3f})"


def show(out: Path) -> None:
    """Print the tables as Markdown."""
    table = pd.DataFrame(read_lines(out))
    for strength, part in table.groupby("strength"):
        wide = part.pivot_table(index="seed", columns=["world", "hypothesis"], values="auroc")
        names = list(dict.fromkeys(part["hypothesis"]))
        print(
            f"\nStrength {strength:g}: mean AUROC over {len(wide)} seeds\n\n| world | "
            + " | ".join(names)
            + " |"
        )
        print("|---" * (len(names) + 1) + "|")
        for world in WORLDS:
            cells = [
                interval(wide[world, name].dropna().to_numpy()) if (world, name) in wide else ""
                for name in names
            ]
            print(f"| {world} | " + " | ".join(cells) + " |")
        for world, claim in CLAIM_OF.items():
            rivals = [name for name in CLAIM_OF.values() if name != claim and (world, name) in wide]
            if strength and rivals and (world, claim) in wide:
                best = max(rivals, key=lambda name: wide[world, name].mean())
                gap = (wide[world, claim] - wide[world, best]).dropna().to_numpy()
                print(f"\n{world}: {claim} less {best}, the best of the others: {interval(gap)}")


def main() -> None:
    """Fit, or print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("hypotheses", nargs="*", default=[*CLAIM_OF.values(), "l2_logistic"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0, 3.0])
    parser.add_argument("--train", type=int, default=100)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--genes", type=int, default=1000)
    options = parser.parse_intermixed_args()
    run_each(fit_all, options.hypotheses, options)
    show(options.out)


if __name__ == "__main__":
    main()
