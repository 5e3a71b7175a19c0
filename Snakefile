from snakemake.utils import min_version

min_version("9.27")

# The default study. A --configfile replaces it as a whole: two studies never mix key by key.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/extract.smk"
include: "workflow/rules/split.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        result("report.html"),


onerror:
    # A job on AWS leaves its log on S3; the reader sits here.
    if AWS is not None:
        for uri, text in failed_logs(log[0], f"{RESULTS}/logs"):
            print(f"\n{uri}:\n{text}", file=sys.stderr)
