# A chapter of the book on the runs of a setting: what the table asks for under chapters. The executed notebook is
# declared as a log, so that it stays when a cell fails.
import shlex


def parameters(wildcards):
    """Options of `nclib run` that choose the runs."""
    values = plan["pages"][wildcards.page]["parameters"]
    return " ".join(f"-p {name} {shlex.quote(str(value))}" for name, value in values.items())


rule chapter:
    input:
        lambda wildcards: [f"trained/{job}.json" for job in plan["pages"][wildcards.page]["jobs"]],
    output:
        "chapters/{page}.html",
    log:
        said="logs/chapter-{page}.log",
        notebook="logs/{page}.ipynb",
    params:
        chapter=lambda wildcards: plan["pages"][wildcards.page]["chapter"],
        values=parameters,
    threads: 1
    shell:
        "{PYTHON} nclib run {params.chapter} {params.values} --force --output {log.notebook} --html {output} 2> {log.said}"
