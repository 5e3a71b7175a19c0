# Tables to one page that opens anywhere; nothing is computed here.


rule report:
    input:
        samples=result("samples.parquet"),
        splits=result("splits.parquet"),
        runs=run_files("run.json"),
        endpoint=result("endpoint.json"),
        assays=[result(f"blocks/{item.name}.json") for item in STUDY.assays],
        tables=[result(f"{name}.parquet") for name in plan.TABLES],
        benchmarks=lambda wildcards: [
            result(f"benchmarks/{name}.tsv")
            for name in plan.benchmarks(
                STUDY, {item.name: len(shards_of(item.name)) for item in STUDY.assays}
            )
        ],
    output:
        report=report(
            result("report.html"),
            category="Evaluation",
            caption="../report/report.rst",
        ),
        pdf=result("report.pdf"),
        # Written after all else of the export, for which it vouches.
        export=result("export/ro-crate-metadata.json"),
    log:
        record("logs/report.log"),
    benchmark:
        record("benchmarks/report.tsv")
    conda:
        "../envs/oncoarena.yaml"
    resources:
        **asks(resources.REPORT),
    params:
        study=STUDY.referee(),
        config=config,
        command=COMMAND,
        code=code("oncoarena.results"),
    script:
        "../scripts/report.py"
