# Releases the runs of a job under book/released, if the table says so, as soon as they are trained.
rule release:
    input:
        "trained/{job}.json",
    output:
        "released/{job}.json",
    log:
        "logs/release-{job}.log",
    threads: 1
    priority: len(JOBS) + 1
    shell:
        "{PYTHON} nclib.runs.sweep_release {PLAN} {wildcards.job} {output} 2> {log}"
