# Tables to one page that opens anywhere; nothing is computed here.


rule report:
    input:
        samples=f"{RESULTS}/samples.parquet",
        splits=f"{RESULTS}/splits.parquet",
        runs=run_files("run.json"),
        assays=[f"{RESULTS}/blocks/{item.name}.json" for item in STUDY.assays],
        evaluation=f"{RESULTS}/evaluation.parquet",
        comparison=f"{RESULTS}/comparison.parquet",
        checks=f"{RESULTS}/checks.parquet",
        curves=f"{RESULTS}/curves.parquet",
        confusion=f"{RESULTS}/confusion.parquet",
    output:
        report(
            f"{RESULTS}/report.html",
            category="Evaluation",
            caption="../report/report.rst",
        ),
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    params:
        study=STUDY.referee(),
        config=config,
        command=f"snakemake --cores all --configfile {' '.join(map(str, workflow.configfiles))}",
        code=code("oncoarena.results"),
    conda:
        "../envs/oncoarena.yaml"
    script:
        "../scripts/report.py"
