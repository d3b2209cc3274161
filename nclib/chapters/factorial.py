"""What fine structure at the end of training depends on: augmentation x schedule x weight decay, crossed.

courses = factorial.courses(factorial.released())
factorial.effects_table(courses)

Each run is compared with those that differ from it in one factor only.
"""

from __future__ import annotations

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import spearmanr

from nclib.chapters.conclusions import Case, Statement
from nclib.chapters.figures import WIDTH, described, epochs_axis, theme
from nclib.chapters.long_runs import FACTORIAL, planned_runs
from nclib.chapters.statistics import UNLIMITED, over_seeds, with_interval
from nclib.chapters.when_structure_appears import MOVED, trajectories
from nclib.runs.released import ReleasedRun, find_released

FACTORS = ["augmentation", "schedule", "weight decay"]
CONTRASTS = (  # factor, level, and the level that it is compared with
    ("augmentation", "none", "crop-flip"),
    ("schedule", "step", "constant"),
    ("schedule", "one-cycle", "constant"),
    ("weight decay", 5e-3, 5e-4),
    ("weight decay", 0.0, 5e-4),
)
ENDS = {"accuracy": "train accuracy", "explained_variance": "explained variance", "kmeans": "k-means"}
EQUAL = "at equal accuracy"


def released() -> list[ReleasedRun]:
    """Released runs of the factorial; one of them was released under another name."""
    planned = [config for config, name in planned_runs().items() if name.startswith(FACTORIAL)]
    return [run for config in planned if (run := find_released(config))]


def courses(runs: list[ReleasedRun]) -> pd.DataFrame:
    """``trajectories`` of the runs on train images, indexed by factors and seed."""
    table = trajectories({"FashionMNIST": runs})
    return table[table["split"] == "train"].set_index([*FACTORS, "seed"]).sort_index()


def at_end(courses: pd.DataFrame) -> pd.DataFrame:
    """The last row of every run."""
    return courses.sort_values("epoch").groupby(level=[*FACTORS, "seed"]).tail(1).sort_index()


def pairs(courses: pd.DataFrame, factor: str, level: object, against: object) -> pd.DataFrame:
    """Pairs of runs that differ in one factor, and by how much the one exceeds the other.

    Returns
    -------
    A row for each combination of the other factors and seed of which both runs are there. Columns: those of
    ``ENDS``, at the end, of ``level`` minus of ``against``; "at equal accuracy", the same of explained
    variance where both first reach the highest train accuracy that both reach, not a number where one of
    them does before its second measured epoch; "epoch" and "epoch against", when they do.
    """
    runs = {key: course.sort_values("epoch") for key, course in courses.groupby(level=[*FACTORS, "seed"])}
    place, rows = FACTORS.index(factor), {}
    for key, one in runs.items():
        others, other = key[:place] + key[place + 1 :], runs.get((*key[:place], against, *key[place + 1 :]))
        if key[place] != level or other is None:
            continue
        row = {name: one[name].iloc[-1] - other[name].iloc[-1] for name in ENDS}
        accuracy = min(one["accuracy"].max(), other["accuracy"].max())
        (epoch, explained), (epoch_against, against_it) = (reached(of, accuracy) for of in (one, other))
        rows[others] = row | {EQUAL: explained - against_it, "epoch": epoch, "epoch against": epoch_against}
    names = [*(name for name in FACTORS if name != factor), "seed"]
    index = pd.MultiIndex.from_tuples(list(rows), names=names)
    return pd.DataFrame(list(rows.values()), index, [*ENDS, EQUAL, "epoch", "epoch against"], dtype=float)


def reached(course: pd.DataFrame, accuracy: float) -> tuple[float, float]:
    """Epoch and explained variance where a run first reaches an accuracy, linear between measured epochs.

    Not numbers where that is before its second measured epoch: from initialisation to there, all changes.
    """
    first = int((course["accuracy"] >= accuracy).argmax())
    if first < 2:
        return np.nan, np.nan
    before, after = course.iloc[first - 1], course.iloc[first]
    part = (accuracy - before["accuracy"]) / (after["accuracy"] - before["accuracy"])
    epoch, explained = (
        before[name] + part * (after[name] - before[name]) for name in ("epoch", "explained_variance")
    )
    return float(epoch), float(explained)


def effects_table(courses: pd.DataFrame) -> pd.DataFrame:
    """What each contrast changes on train, with its 95 % interval over the settings of the other factors.

    A setting's difference is the mean over its seeds.
    """
    rows = []
    for factor, level, against in CONTRASTS:
        found = pairs(courses, factor, level, against)
        if found.empty:
            continue
        of_setting = found.groupby(level=[name for name in FACTORS if name != factor]).mean()
        equal = of_setting[EQUAL].dropna()
        row = {"compared": _named(factor, level, against), "settings": str(len(of_setting))}
        row |= {"seeds": str(found.index.unique("seed").size)}
        row |= {name: with_interval(of_setting[key], UNLIMITED, "{:+.3f}") for key, name in ENDS.items()}
        row[f"explained variance {EQUAL}"] = with_interval(equal, UNLIMITED, "{:+.3f}") if len(equal) else "-"
        row["settings there"] = str(len(equal))
        when = (over_seeds([found[name].mean()], "{:.1f}") for name in ("epoch", "epoch against"))
        row["reached at epoch, on average"] = " against ".join(when)
        rows.append(row)
    return pd.DataFrame(rows).set_index("compared")


def _named(factor: str, level: object, against: object) -> str:
    return f"{factor}: {level} against {against}"


def shares_table(courses: pd.DataFrame) -> pd.DataFrame:
    """How much of the differences between runs each factor accounts for: sums of squares over their total.

    Of the seeds that have a run of every setting; "rest" is what is left, three factors at once and seeds.
    """
    ends = at_end(courses)
    columns = {}
    for key, name in ENDS.items():
        by_seed = ends[key].unstack("seed").dropna(axis="columns")
        shape = [by_seed.index.unique(factor).size for factor in FACTORS]
        if by_seed.empty or len(by_seed) < np.prod(shape):
            return pd.DataFrame(columns=list(ENDS.values()))
        columns[name] = _shares(by_seed.to_numpy().reshape(*shape, -1))
    return pd.DataFrame(columns).map("{:.0%}".format)


def _shares(values: np.ndarray) -> dict[str, float]:
    """Of values by factor, factor, factor and seed: each part's share of their sum of squares."""

    def mean(kept: tuple[int, ...]) -> np.ndarray:
        return values.mean(tuple(set(range(values.ndim)) - set(kept)), keepdims=True)

    total, found = np.square(values - values.mean()).sum(), {}
    for axis, factor in enumerate(FACTORS):
        found[factor] = mean((axis,)) - mean(())
    for a, b in combinations(range(len(FACTORS)), 2):
        part = mean((a, b)) - mean((a,)) - mean((b,)) + mean(())
        found[f"{FACTORS[a]} and {FACTORS[b]} together"] = part
    shares = {
        name: float(np.square(np.broadcast_to(part, values.shape)).sum() / total)
        for name, part in found.items()
    }
    return shares | {"rest": max(0.0, 1 - sum(shares.values()))}  # but for rounding at least 0


def statements(courses: pd.DataFrame) -> list[Statement]:
    """What the factorial decides about each factor: a value for each seed, the mean over all settings.

    With one seed these are observations, whatever the number of settings.
    """
    end, equal = "explained variance on train at the end", f"explained variance on train {EQUAL}"
    made = [
        Statement(
            "Without augmentation fine classes explain less of the variance at the end, at the same schedule"
            f" and weight decay, by more than {MOVED:g}",
            f"{end}, with minus without",
            _lost(courses, "augmentation", "explained_variance"),
            MOVED,
        ),
        Statement(
            "At equal train accuracy, too, fine classes explain less of the variance without augmentation, by"
            f" more than {MOVED:g}",
            f"{equal}, with minus without",
            _lost(courses, "augmentation", EQUAL),
            MOVED,
        ),
        Statement(
            "Where the learning rate falls, fine classes explain less of the variance at the end than where"
            f" it stays, by more than {MOVED:g}",
            f"{end}, constant rate minus falling rate",
            _lost(courses, "schedule", "explained_variance"),
            MOVED,
        ),
        Statement(
            "At equal train accuracy, too, fine classes explain less of the variance where the learning rate"
            f" falls, by more than {MOVED:g}",
            f"{equal}, constant rate minus falling rate",
            _lost(courses, "schedule", EQUAL),
            MOVED,
        ),
        Statement(
            "Another weight decay than 5e-4 leaves less explained variance at the end, by more than"
            f" {MOVED:g}",
            f"{end}, weight decay 5e-4 minus the other",
            _lost(courses, "weight decay", "explained_variance"),
            MOVED,
        ),
        Statement(
            "The more training images a setting fits, the less fine classes explain at the end",
            "minus the rank correlation of train accuracy and explained variance over settings",
            _fitted(courses),
        ),
    ]
    return [statement for statement in made if statement.cases]


def _lost(courses: pd.DataFrame, factor: str, measure: str) -> list[Case]:
    """Minus the mean of ``pairs`` over settings, by seed."""
    cases = []
    for of_factor, level, against in CONTRASTS:
        if of_factor != factor:
            continue
        found = pairs(courses, factor, level, against)[measure].dropna()
        settings = found.groupby(level="seed").size()
        if len(found):
            name = f"{_named(factor, level, against)}, pairs: {over_seeds(settings, '{:.0f}')}"
            values = (-found.groupby(level="seed").mean()).tolist()
            cases.append(Case(name, values, _images(courses, measure)))
    return cases


def _images(courses: pd.DataFrame, measure: str) -> int:
    """How many images a measure is from: at the end all, on the way a part."""
    return int((courses if measure == EQUAL else at_end(courses))["n"].min())


def _fitted(courses: pd.DataFrame) -> list[Case]:
    """By augmentation, minus Spearman's correlation of accuracy and explained variance, by seed."""
    cases, measures = [], ["accuracy", "explained_variance"]
    for augmentation, of_kind in at_end(courses).groupby(level="augmentation"):
        by_seed = [of[measures] for _, of in of_kind.groupby(level="seed")]
        by_seed = [of for of in by_seed if len(of) > 2 and (of.nunique() > 1).all()]
        if by_seed:
            name = f"augmentation {augmentation}, settings: {over_seeds(map(len, by_seed), '{:.0f}')}"
            values = [-float(spearmanr(*of.to_numpy().T).statistic) for of in by_seed]
            cases.append(Case(name, values, int(of_kind["n"].min())))
    return cases


@theme()
def courses_figure(courses: pd.DataFrame, title: str) -> Axes:
    """Explained variance on train over epochs, and over the share of train images that are not fitted.

    A column for each schedule, a colour for each weight decay; solid without augmentation, dashed with it.
    The rings are the ends.
    """
    schedules = list(courses.index.unique("schedule"))
    decays = list(courses.index.unique("weight decay"))
    figure, panels = plt.subplots(
        2, len(schedules), figsize=(WIDTH, 5), squeeze=False, sharex="row", sharey=True, layout="constrained"
    )
    for (augmentation, schedule, decay, _), course in courses.groupby(level=[*FACTORS, "seed"]):
        course = course.sort_values("epoch")
        over_epochs, over_errors = panels[:, schedules.index(schedule)]
        style = {"color": f"C{decays.index(decay)}", "ls": "-" if augmentation == "none" else "--", "lw": 1.2}
        label = f"weight decay {decay:g}, {'no augmentation' if augmentation == 'none' else augmentation}"
        explained, error = course["explained_variance"], 1 - course["accuracy"]
        over_epochs.plot(course["epoch"], explained, label=label, **style)
        over_errors.plot(error.clip(lower=1e-4), explained, **style)
        over_errors.plot(max(error.iloc[-1], 1e-4), explained.iloc[-1], "o", mfc="none", color=style["color"])
    for (over_epochs, over_errors), schedule in zip(panels.T, schedules, strict=True):
        over_epochs.set_title(schedule, fontsize="medium")
        over_epochs.set_xlabel("epoch (0: at initialisation)")
        epochs_axis(over_epochs, courses["epoch"].max())
        over_errors.set(xscale="log", xlabel="train images not fitted, as a share")
    panels[1, 0].invert_xaxis()  # the row shares it
    handles, names = zip(*_first_of_each(panels[0]), strict=True)
    figure.legend(handles, names, loc="outside lower center", ncols=len(decays), fontsize="small")
    figure.supylabel("explained variance, train", fontsize="medium")
    figure.suptitle(title)
    ends = at_end(courses)["explained_variance"]
    words = "; ".join(
        f"augmentation {augmentation}, {schedule}: {of.min():.2f} to {of.max():.2f}"
        for (augmentation, schedule), of in ends.groupby(level=["augmentation", "schedule"])
    )
    return described(panels[0, 0], f"{title}. Explained variance on train at the end, {words}.")


def _first_of_each(panels: np.ndarray) -> list[tuple[object, str]]:
    """Handles and names of the legend, each name once, in alphabetical order."""
    found = {
        name: handle
        for panel in panels
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    return [(found[name], name) for name in sorted(found)]
