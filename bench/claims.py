"""Cost of one fit of every hypothesis on the demo cohort, in processes of their own, as a study runs them.

    snakemake --cores 2 results/srbct/splits/receipt.json results/srbct/blocks/expression.json
    python bench/claims.py [--rounds 3] [HYPOTHESIS ...]

Hypotheses take turns; printed are medians of seconds, CPU seconds and peak memory, and the ratio of CPU
seconds to l2_logistic's, round by round.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from oncoarena import schema
from oncoarena.runs import run_part
from oncoarena.specs import read_spec

RESULTS = "results/srbct"
PEER = "l2_logistic"


def main() -> None:
    """Fit every hypothesis in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("hypotheses", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    known = schema.read_yaml(Path("workflow/schemas/hypothesis.schema.yaml"))
    specs = [read_spec(path, known) for path in sorted(Path("config/hypotheses").glob("*.yaml"))]
    wanted = {*(options.hypotheses or [spec.id for spec in specs]), PEER}
    figures: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for round_number in range(options.rounds):
            for spec in specs:
                if spec.id not in wanted:
                    continue
                run = run_part(
                    spec.training,
                    splits_receipt=f"{RESULTS}/splits/receipt.json",
                    assay_receipts=[f"{RESULTS}/blocks/expression.json"],
                    part=0,
                    n_parts=1,
                    study_seed=round_number,
                    threads=1,
                    gpu=0,
                    uri=f"{folder}/{spec.id}",
                )
                if run["status"] == "trained":
                    figures.setdefault(spec.id, []).append(run["splits"][0])
    print(f"\n{'hypothesis':<22}{'seconds':>9}{'CPU s':>8}{'MB':>7}{'CPU / ' + PEER:>20}")
    for name, rounds in figures.items():
        ratios = [a["cpu_seconds"] / b["cpu_seconds"] for a, b in zip(rounds, figures[PEER], strict=True)]
        median = {key: statistics.median(item[key] for item in rounds) for key in rounds[0] if key in KEYS}
        print(
            f"{name:<22}{median['seconds']:>9.1f}{median['cpu_seconds']:>8.1f}{median['peak_memory_mb']:>7.0f}"
            f"{statistics.median(ratios):>20.1f}"
        )


KEYS = ("seconds", "cpu_seconds", "peak_memory_mb")

if __name__ == "__main__":
    main()
