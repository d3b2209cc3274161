# Feature files, for `nclib report` and other tools: what the table asks for under features.
rule features:
    input:
        lambda wildcards: f"trained/{plan['features'][f'features/{wildcards.file}.safetensors']}.json",
    output:
        "features/{file}.safetensors",
    log:
        "logs/features-{file}.log",
    params:
        what=lambda wildcards: wildcards.file.replace("-", " ", 2),
    threads: 1
    shell:
        "{PYTHON} nclib.runs.sweep_features {params.what} {output} 2> {log}"
