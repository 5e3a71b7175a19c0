# The only step after splitting that reads the labels of test samples.


rule evaluate:
    input:
        samples=f"{RESULTS}/samples.parquet",
        splits=f"{RESULTS}/splits.parquet",
        assays=[f"{RESULTS}/blocks/{item.name}.json" for item in STUDY.assays],
        predictions=run_files("predictions.parquet"),
        runs=run_files("run.json"),
        refits=[
            f"{RESULTS}/runs/{name}/{file}"
            for name in plan.refit_runs(STUDY)
            for file in ("run.json", "predictions.parquet")
        ],
        endpoint=f"{RESULTS}/endpoint.json",
        external=[item.predictions for item in STUDY.external],
    output:
        **{name: f"{RESULTS}/{name}.parquet" for name in plan.TABLES},
        predictions=f"{RESULTS}/predictions.parquet",
    log:
        f"{RESULTS}/logs/evaluate.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate.tsv"
    conda:
        "../envs/oncoarena.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 4000,
    params:
        study=STUDY.referee(),
        code=code("oncoarena.results"),
    script:
        "../scripts/evaluate.py"
