# Every split of the study, decided once, for all hypotheses alike.


rule split:
    input:
        f"{RESULTS}/samples.parquet",
    output:
        splits=f"{RESULTS}/splits.parquet",
        receipt=f"{RESULTS}/splits/receipt.json",
    log:
        f"{RESULTS}/logs/split.log",
    benchmark:
        f"{RESULTS}/benchmarks/split.tsv"
    params:
        plan=dataclasses.asdict(STUDY.splits),
        covariates=list(STUDY.covariates),
        code=code("oncoarena.splits", "oncoarena.runs"),
    conda:
        "../envs/oncoarena.yaml"
    script:
        "../scripts/split.py"
