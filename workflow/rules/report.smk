# One page: structure by setting with intervals over seeds, best and worst, cost.
rule report:
    input:
        expand(f"measures/{{job}}-{CODE}.json", job=JOBS),
    output:
        "report.html",
    log:
        "logs/report.log",
    threads: 1
    shell:
        "{PYTHON} nclib.chapters.sweeps report {PLAN} {output} {input} 2> {log}"
