# Trains the runs of a job into the store, those that are not there yet. GPUs and time limits are set in a profile.
def several_gpus(wildcards, resources):
    """torchrun, where a profile gives a job more than one GPU of a node."""
    gpus = resources.get("gpu", 0)
    return f"torch.distributed.run --standalone --nproc-per-node {gpus} -m " if gpus > 1 else ""


rule train:
    output:
        "trained/{job}.json",
    log:
        "logs/train-{job}.log",
    params:
        several_gpus=several_gpus,
    threads: config["threads"]
    priority: lambda wildcards: PRIORITY[wildcards.job]
    shell:
        "{PYTHON} {params.several_gpus}nclib.runs.sweep_job {PLAN} {wildcards.job} {output} 2> {log}"
