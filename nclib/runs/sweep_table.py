"""Tables of sweeps: a YAML file of recipes, what is changed of them and seeds, read and checked.

sweep = read_sweep(Path("workflow/grid-digits.yaml"))
sweep.jobs      # runs of each job, and their keys
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

from nclib.config import RunConfig, field_names, parse_override, recipe_config, unknown
from nclib.data.datasets import ImageSet
from nclib.data.grouping import make_grouping
from nclib.errors import ConfigError, NclibError
from nclib.paths import NOTEBOOKS
from nclib.storage import store
from nclib.training.loop import measured_epochs

INSTALL = "a sweep needs Snakemake: pip install 'nclib[workflow]'"
MOST_RUNS = 10_000  # of one table
LONGEST = 200  # letters of a released folder's name; file systems take 255 with what is put before it
DECIMAL = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
SWEEP_KEYS = ("runs", "runs_a_job", "features", "chapters", "release")
ENTRY_KEYS = ("recipe", "name", "seeds", "set", "vary")
NAME = re.compile(r"[A-Za-z0-9][\w.-]*", flags=re.ASCII)


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed only.

    Attributes
    ----------
    name : the entry's name or its recipe, and what was changed of it.
    parameters : the same, as those of a chapter.
    configs : what to train, a configuration for each seed.
    """

    name: str
    parameters: dict[str, Any]
    configs: tuple[RunConfig, ...]


@dataclass(frozen=True)
class Sweep:
    """A table that was read.

    Attributes
    ----------
    file : where it lies.
    settings : in the order of the table.
    runs_a_job : how many runs one job trains, one after another.
    features : split and epoch of the features of which each run gets a file; -1 is the last epoch.
    chapters : chapters that are executed for each setting, by name.
    release : whether each run is published under ``book/released``; one that lies there is not trained again.
    """

    file: Path
    settings: tuple[Setting, ...]
    runs_a_job: int
    features: tuple[tuple[str, int], ...] = ()
    chapters: tuple[str, ...] = ()
    release: bool = False

    @property
    def runs(self) -> list[tuple[str, RunConfig]]:
        """Name and configuration of every run."""
        return [
            (run_name(setting, config), config) for setting in self.settings for config in setting.configs
        ]

    @property
    def jobs(self) -> dict[str, list[dict[str, Any]]]:
        """Runs of each job: name, key and configuration. A job is named after the keys of its runs.

        To be released, each has a "folder" too, and "with_features": the first run of every data set.
        """
        runs = [
            {"name": name, "key": store.run_key(config), "config": asdict(config)}
            for name, config in self.runs
        ]
        if self.release:
            seen: set[str] = set()
            for run in runs:
                dataset = run["config"]["dataset"]
                run |= {"folder": folder_name(run["name"]), "with_features": dataset not in seen}
                seen.add(dataset)
        jobs = [runs[i : i + self.runs_a_job] for i in range(0, len(runs), self.runs_a_job)]
        return {job_name([run["key"] for run in job]): job for job in jobs}

    @property
    def feature_files(self) -> dict[str, str]:
        """Files of features in the output folder, each with the job that trains its run."""
        return {
            f"features/{run['key']}-{split}-{epoch}.safetensors": job
            for job, runs in self.jobs.items()
            for run in runs
            for split, epoch in self.features
        }

    @property
    def pages(self) -> dict[str, dict[str, Any]]:
        """Executed chapters by the name of the page: chapter, parameters and the jobs that train its runs."""
        job_of = {run["key"]: job for job, runs in self.jobs.items() for run in runs}
        found = {}
        for setting, chapter in product(self.settings, self.chapters):
            keys = [store.run_key(config) for config in setting.configs]
            seeds = {"seed": setting.configs[0].seed, "seeds": len(keys)}
            found[f"{chapter}-{job_name(keys)}"] = {
                "chapter": chapter,
                "parameters": setting.parameters | seeds,
                "jobs": list(dict.fromkeys(job_of[key] for key in keys)),
            }
        return found


def run_name(setting: Setting, config: RunConfig) -> str:
    """What a run of a setting is called in messages and in the report."""
    return f"{setting.name}, seed {config.seed}"


def folder_name(run: str) -> str:
    """Name under ``book/released`` of the run that is called so."""
    return "-".join(re.findall(r"[\w.]+", run.replace(", seed ", " seed")))


def job_name(keys: list[str]) -> str:
    """Name of the job that makes these runs: 12 hexadecimal digits."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:12]


def read_sweep(file: Path) -> Sweep:
    """Read and check a table.

    Raises
    ------
    ConfigError : no such file, no YAML, or something in it that is not allowed; the message names the entry
        and the field.
    """
    content = _mapping(_read_yaml(file), str(file), SWEEP_KEYS)
    entries = content.get("runs")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{file}: runs: expected a list with at least one entry")
    at_once = content.get("runs_a_job", 1)
    if type(at_once) is not int or not 1 <= at_once <= MOST_RUNS:
        raise ConfigError(f"{file}: runs_a_job={at_once!r}: expected a whole number from 1 to {MOST_RUNS}")
    release = content.get("release", False)
    if type(release) is not bool:
        raise ConfigError(f"{file}: release={release!r}: expected true or false")
    if more := [part for part in ("features", "chapters") if release and part in content]:
        raise ConfigError(f"{file}: {more[0]} with release: what was released has no features of all images")
    settings, seen, names, total = [], {}, {}, 0
    for number, entry in enumerate(entries, start=1):
        place = f"{file}: entry {number}"
        for setting in _settings(entry, place):
            if names.setdefault(setting.name, setting.parameters) != setting.parameters:
                raise ConfigError(f"{place}: {setting.name} is the name of other runs already")
            for config in setting.configs:
                if config in seen:
                    raise ConfigError(f"{place}: {setting.name}, seed {config.seed} is in {seen[config]} too")
                seen[config] = f"entry {number}"
            settings.append(setting)
            total += len(setting.configs)
            if total > MOST_RUNS:
                raise ConfigError(f"{place}: more than {MOST_RUNS} runs in one table")
    features = tuple(_features(content.get("features", []), settings, f"{file}: features"))
    chapters = _chapters(content.get("chapters", []), settings, f"{file}: chapters")
    sweep = Sweep(file, tuple(settings), at_once, features, chapters, release)
    if release:
        _refuse_same_folders(sweep)
    return sweep


def _refuse_same_folders(sweep: Sweep) -> None:
    """Raise ConfigError where two runs would be released under one name, or one's name is too long."""
    names: dict[str, str] = {}
    for run, _ in sweep.runs:
        folder = folder_name(run)
        if len(folder) > LONGEST:
            raise ConfigError(f"{sweep.file}: {folder:.60}...: expected a shorter name")
        other = names.setdefault(folder.casefold(), run)  # not every file system tells A from a
        if other != run:
            raise ConfigError(f"{sweep.file}: {other} and {run} would be released under one name; name one")


def _read_yaml(file: Path) -> Any:
    """What a YAML file of plain values holds; keys that come twice, and aliases, are refused."""
    try:
        import yaml
    except ImportError:
        raise NclibError(INSTALL) from None

    class Loader(yaml.SafeLoader):
        def construct_whole(self, node: Any) -> Any:
            """A decimal number; what YAML 1.1 reads in another base, as 010 and 1:30, stays text."""
            text = self.construct_scalar(node)
            return int(text) if DECIMAL.fullmatch(text) else text

        def construct_number(self, node: Any) -> Any:
            text = self.construct_scalar(node)
            return text if ":" in text else self.construct_yaml_float(node)

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):  # a few lines of them can stand for a billion values
                raise ConfigError(f"{file}: *{self.peek_event().anchor}: write the value out")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names = [self.construct_object(key, deep=True) for key, _ in node.value]
            for name in names:
                if names.count(name) > 1:
                    raise ConfigError(f"{file}: {name!r} stands twice, line {node.start_mark.line + 1}")
            return super().construct_mapping(node, deep)

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_whole)
    Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_number)
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except ConfigError:
        raise
    except Exception as error:  # yaml's own, and whatever its tags make of what they cannot read
        raise ConfigError(f"{file} is no YAML table: {' '.join(str(error).split())}") from error


def _mapping(value: Any, place: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    """A mapping whose keys are all allowed."""
    if not isinstance(value, dict):
        raise ConfigError(f"{place}: expected {', '.join(allowed)}; got {value!r:.60}")
    for name in value:
        if name not in allowed:
            raise ConfigError(f"{place}: {unknown('key', name, allowed)}")
    return value


def _settings(entry: Any, place: str) -> Iterator[Setting]:
    """The settings of an entry: its recipe with ``set``, and all combinations of the values of ``vary``."""
    entry = _mapping(entry, place, ENTRY_KEYS)
    recipe, seeds = entry.get("recipe"), _seeds(entry.get("seeds", 1), place)
    start = _name(entry["name"], place) if "name" in entry else recipe
    fixed, lists = (_fields(entry.get(part, {}), f"{place}, {part}") for part in ("set", "vary"))
    fixed = {name: _value(name, value, place) for name, value in fixed.items()}
    lists = {name: _values(name, values, place) for name, values in lists.items()}
    for name in fixed:
        if name in lists:
            raise ConfigError(f"{place}: {name} is both in set and in vary")
    for values in product(*lists.values()):
        fields = fixed | dict(zip(lists, values, strict=True))
        try:
            configs = tuple(recipe_config(recipe, **fields, seed=seed) for seed in seeds)
            _refuse_misfit(configs[0])
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None
        told = fields if start == recipe else {name: fields[name] for name in lists}  # a name says the rest
        name = " ".join([start, *(f"{name}={value}" for name, value in told.items())])
        yield Setting(name, {"recipe": recipe} | fields, configs)


def _name(value: Any, place: str) -> str:
    """What an entry calls its runs."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ConfigError(f"{place}: name={value!r:.60}: expected letters, digits, '.', '-' and '_'")
    return value


def _refuse_misfit(config: RunConfig) -> None:
    """Raise ConfigError where grouping or held_out do not fit the data set, of which no image is read."""
    classes, own = (range(100), 5) if config.dataset == "cifar100" else (range(10), None)
    names = tuple(map(str, classes))
    superclass = own and tuple(c // own for c in classes)  # CIFAR-100's are others, and as large
    images = ImageSet(torch.empty(0), torch.empty(0), names, superclass, own and names[: len(names) // own])
    labels = make_grouping(config.grouping, config.dataset, images).fine_to_coarse
    kept = [c for c in classes if c not in config.held_out]
    if any(c not in classes for c in config.held_out) or len(labels[kept].unique()) < 2:
        raise ConfigError(
            f"held_out={config.held_out}: {config.dataset} has classes 0 to {classes[-1]}, and two coarse "
            "labels must stay"
        )


def _fields(value: Any, place: str) -> dict[str, Any]:
    return _mapping(value, place, tuple(name for name in field_names() if name != "seed"))


def _values(name: str, values: Any, place: str) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{place}: vary {name}={values!r}: expected a list with at least one value")
    checked = [_value(name, value, place) for value in values]
    for value in checked:
        if checked.count(value) > 1:
            raise ConfigError(f"{place}: vary {name}: {value!r} stands twice")
    return checked


def _value(name: str, value: Any, place: str) -> Any:
    """A value as the configuration holds it; YAML reads 5e-4, which has no point, as text."""
    try:
        if value is None:
            raise ConfigError(f"{name}: expected a value")
        read = parse_override(f"{name}={value}")[1] if isinstance(value, str) else value
        return getattr(RunConfig(**{name: read}), name)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def _seeds(value: Any, place: str) -> list[int]:
    """Seeds from a list, or from their number."""
    seeds = list(range(min(value, MOST_RUNS + 1))) if type(value) is int else value
    if not isinstance(seeds, list) or not seeds or any(type(seed) is not int for seed in seeds):
        raise ConfigError(f"{place}: seeds={value!r}: expected how many, or a list of whole numbers")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{place}: seeds={value!r}: one of them stands twice")
    return [_value("seed", seed, place) for seed in seeds]


def _features(wanted: Any, settings: list[Setting], place: str) -> Iterator[tuple[str, int]]:
    """Split and epoch of each entry, which every run must have measured."""
    if not isinstance(wanted, list):
        raise ConfigError(f"{place}: expected a list; got {wanted!r:.60}")
    for entry in wanted:
        entry = _mapping(entry, place, ("split", "epoch"))
        split, epoch = entry.get("split"), entry.get("epoch", -1)
        if split not in ("train", "test"):
            raise ConfigError(f"{place}: split={split!r}: expected train or test")
        if type(epoch) is not int:
            raise ConfigError(f"{place}: epoch={epoch!r}: expected a whole number")
        for setting in settings if epoch != -1 else ():
            measured = measured_epochs(setting.configs[0].epochs)
            if epoch not in measured:
                known = ", ".join(map(str, measured))
                raise ConfigError(f"{place}: epoch={epoch!r}: {setting.name} is measured at {known}")
        yield split, epoch


def _chapters(wanted: Any, settings: list[Setting], place: str) -> tuple[str, ...]:
    """Names of chapters, which take seeds that follow each other."""
    if not isinstance(wanted, list):
        raise ConfigError(f"{place}: expected a list; got {wanted!r:.60}")
    for name in wanted:
        if not (NOTEBOOKS / f"{name}.ipynb").is_file():
            known = ", ".join(sorted(path.stem for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")))
            raise ConfigError(f"{place}: no chapter {name!r:.60}; chapters: {known}")
    for setting in settings if wanted else ():
        seeds = [config.seed for config in setting.configs]
        if seeds != list(range(seeds[0], seeds[0] + len(seeds))):
            raise ConfigError(f"{place}: the seeds of {setting.name} must follow each other: {seeds}")
    return tuple(dict.fromkeys(wanted))
