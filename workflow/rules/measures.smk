# Measures the runs of a job. The store remembers each result, so notebooks find it too.
rule measures:
    input:
        "trained/{job}.json",
    output:
        f"measures/{{job}}-{CODE}.json",
    log:
        "logs/measures-{job}.log",
    threads: 1
    priority: len(JOBS) + 1
    shell:
        "{PYTHON} nclib.chapters.sweeps measures {PLAN} {wildcards.job} {output} 2> {log}"
