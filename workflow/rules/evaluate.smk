# The only step after splitting that reads the labels of test samples.


rule evaluate:
    input:
        samples=result("samples.parquet"),
        splits=result("splits.parquet"),
        assays=[result(f"blocks/{item.name}.json") for item in STUDY.assays],
        predictions=run_files("predictions.parquet"),
        attributions=run_files("attributions.parquet"),
        runs=run_files("run.json"),
        refits=[
            result(f"runs/{name}/{file}")
            for name in plan.refit_runs(STUDY)
            for file in ("run.json", "predictions.parquet")
        ],
        endpoint=result("endpoint.json"),
        external=[given(item.predictions) for item in STUDY.external],
    output:
        **{name: result(f"{name}.parquet") for name in plan.TABLES},
        predictions=result("predictions.parquet"),
    log:
        record("logs/evaluate.log"),
    benchmark:
        record("benchmarks/evaluate.tsv")
    conda:
        "../envs/oncoarena.yaml"
    threads: resources.EVALUATE.threads
    resources:
        **asks(resources.EVALUATE),
    params:
        study=STUDY.referee(),
        code=code("oncoarena.results"),
    script:
        "../scripts/evaluate.py"
