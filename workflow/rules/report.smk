# Tables to one page that opens anywhere; nothing is computed here.


rule report:
    input:
        samples=f"{RESULTS}/samples.parquet",
        splits=f"{RESULTS}/splits.parquet",
        runs=run_files("run.json"),
        endpoint=f"{RESULTS}/endpoint.json",
        assays=[f"{RESULTS}/blocks/{item.name}.json" for item in STUDY.assays],
        tables=[f"{RESULTS}/{name}.parquet" for name in plan.TABLES],
        benchmarks=lambda wildcards: [
            f"{RESULTS}/benchmarks/{name}.tsv"
            for name in plan.benchmarks(
                STUDY, {item.name: len(shards_of(item.name)) for item in STUDY.assays}
            )
        ],
    output:
        report=report(
            f"{RESULTS}/report.html",
            category="Evaluation",
            caption="../report/report.rst",
        ),
        pdf=f"{RESULTS}/report.pdf",
        # Written after all else of the export, for which it vouches.
        export=f"{RESULTS}/export/ro-crate-metadata.json",
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        "../envs/oncoarena.yaml"
    params:
        study=STUDY.referee(),
        config=config,
        command=f"snakemake --cores all --configfile {' '.join(map(str, workflow.configfiles))}",
        code=code("oncoarena.results"),
    script:
        "../scripts/report.py"
