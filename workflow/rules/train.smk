# Trains the runs of a job into the store, those that it lacks. GPUs and time limits are set in a profile.
rule train:
    output:
        "trained/{job}.json",
    log:
        "logs/train-{job}.log",
    threads: 1
    shell:
        "{PYTHON} nclib.runs.sweep '{PLAN}' {wildcards.job} {output} 2> {log}"
