"""What fine structure at the end of training depends on: augmentation x schedule x weight decay, crossed.

courses = factorial.courses(factorial.released())
factorial.effects_table(courses)

Each run is compared with those that differ from it in one factor only.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from pandas.api.typing import DataFrameGroupBy
from scipy.stats import kendalltau
from scipy.stats import t as student_t

from nclib.chapters.conclusions import MOVED, Bounded, Case, Statement, Tested
from nclib.chapters.figures import WIDTH, described, epochs_axis, theme
from nclib.chapters.long_runs import FACTORIAL, planned_runs
from nclib.chapters.statistics import FEWEST as FEWEST_SEEDS
from nclib.chapters.statistics import over_seeds
from nclib.chapters.when_structure_appears import trajectories
from nclib.runs.released import ReleasedRun, released_runs

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
SEEN = (  # factors and seed of the runs that were released when a rule of ``statements`` was last changed
    ("none", "step", 5e-4, 0),
    ("none", "step", 5e-3, 0),
    ("none", "constant", 5e-4, 0),
    ("none", "constant", 5e-3, 0),
    ("none", "one-cycle", 5e-4, 0),
    ("crop-flip", "step", 5e-4, 0),
    ("crop-flip", "step", 5e-3, 0),
    ("crop-flip", "constant", 5e-4, 0),
    ("crop-flip", "one-cycle", 5e-4, 0),
)
FEWEST = 5  # settings of which an order can be significant at 5 %


def released() -> list[ReleasedRun]:
    """Released runs of the factorial; one of them was released under another name."""
    planned = [config for config, name in planned_runs().items() if name.startswith(FACTORIAL)]
    found = {run.config: run for run in released_runs()}
    return [found[config] for config in planned if config in found]


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
    ``ENDS``, at the end, of ``level`` minus of ``against``; "least" and "most", bounds of the same difference
    of explained variance at the accuracy of that run that ends with fewer images fitted, see ``passing``;
    "epoch", the first measured one at which the other has this accuracy.
    """
    runs = {key: course.sort_values("epoch") for key, course in courses.groupby(level=[*FACTORS, "seed"])}
    place, rows = FACTORS.index(factor), {}
    for key, one in runs.items():
        others, other = key[:place] + key[place + 1 :], runs.get((*key[:place], against, *key[place + 1 :]))
        if key[place] != level or other is None:
            continue
        row = {name: one[name].iloc[-1] - other[name].iloc[-1] for name in ENDS}
        ends_lower = one["accuracy"].iloc[-1] < other["accuracy"].iloc[-1]
        fewer, more = (one, other) if ends_lower else (other, one)
        epoch, *bounds = passing(more, fewer)
        gaps = [
            (fewer["explained_variance"].iloc[-1] - bound) * (1 if ends_lower else -1) for bound in bounds
        ]
        rows[others] = row | {"least": min(gaps), "most": max(gaps), "epoch": epoch}
    names = [*(name for name in FACTORS if name != factor), "seed"]
    index = pd.MultiIndex.from_tuples(list(rows), names=names)
    return pd.DataFrame(list(rows.values()), index, [*ENDS, "least", "most", "epoch"], dtype=float)


def passing(course: pd.DataFrame, fewer: pd.DataFrame) -> tuple[float, float, float]:
    """Where a run passes the train accuracy at which another ends.

    Returns
    -------
    The first measured epoch with at least this accuracy, and explained variance there and at the measured
    epoch before it: that at equal accuracy is taken to lie between them. Not numbers if that is before the
    second measured epoch, for from initialisation to there all changes, or while both runs are one network
    still, as with schedules that begin alike.
    """
    first = int((course["accuracy"] >= fewer["accuracy"].iloc[-1]).argmax())
    at, before = course.iloc[first], course.iloc[max(first - 1, 0)]
    meanwhile = fewer[fewer["epoch"] == at["epoch"]]
    one_network = (meanwhile["explained_variance"] == at["explained_variance"]).any()
    if first < 2 or one_network:
        return np.nan, np.nan, np.nan
    return float(at["epoch"]), float(at["explained_variance"]), float(before["explained_variance"])


def effects_table(courses: pd.DataFrame) -> pd.DataFrame:
    """What each contrast changes on train: mean, 95 % interval, and range over the other factors' settings.

    The interval's error is what three factors do together, and seeds: a factorial of one seed has no other.
    It is there if some seed has all settings. A setting's difference is the mean over its seeds.
    """
    rows = []
    for factor, level, against in CONTRASTS:
        found = pairs(courses, factor, level, against)
        if found.empty:
            continue
        of_setting = _by_setting(found).mean()
        row = {"compared": _named(factor, level, against), "settings": str(len(of_setting))}
        row |= {"seeds": str(found.index.unique("seed").size)}
        for key, name in ENDS.items():
            half = _half_width(courses, key, found)
            ranged = over_seeds(of_setting[key], "{:+.3f}")
            mean, brackets, spread = ranged.partition(" (")
            row[name] = f"{mean} ± {half:.2g}{brackets}{spread}" if half is not None else ranged
        equal = of_setting.dropna()
        bounds = f"{equal['least'].mean():+.3f} to {equal['most'].mean():+.3f}" if len(equal) else "-"
        row[f"explained variance {EQUAL}, between"] = bounds
        row |= {"settings there": str(len(equal)), "passed at epoch": over_seeds(equal["epoch"], "{:.0f}")}
        elsewhere = of_setting.loc[of_setting["least"].isna(), "explained_variance"]
        row["explained variance at the end, other settings"] = over_seeds(elsewhere, "{:+.3f}")
        rows.append(row)
    return pd.DataFrame(rows).set_index("compared")


def _by_setting(found: pd.DataFrame) -> DataFrameGroupBy:
    """``pairs`` by the settings of the other factors: a seed each."""
    return found.groupby(level=[name for name in found.index.names if name != "seed"])


def _named(factor: str, level: object, against: object) -> str:
    return f"{factor}: {level} against {against}"


def _complete(courses: pd.DataFrame, measure: str) -> np.ndarray | None:
    """Ends by factor, factor, factor and seed, of the seeds that have all settings; None without one."""
    by_seed = at_end(courses)[measure].unstack("seed").dropna(axis="columns")
    levels = [{level for of, *pair in CONTRASTS if of == factor for level in pair} for factor in FACTORS]
    shape = [len(of) for of in levels]
    if by_seed.empty or len(by_seed) < np.prod(shape):
        return None
    return by_seed.to_numpy().reshape(*shape, -1)


def analysis_of_variance(values: np.ndarray) -> pd.DataFrame:
    """Sums of squares and degrees of freedom of a complete factorial.

    Parameters
    ----------
    values : by factor, factor, factor and seed.

    Returns
    -------
    A row for each factor, for each two together, and "rest": three together, and seeds. Columns "squares" and
    "freedom".
    """

    def mean(kept: tuple[int, ...]) -> np.ndarray:
        return values.mean(tuple(set(range(values.ndim)) - set(kept)), keepdims=True)

    rows = {}
    for axis, factor in enumerate(FACTORS):
        rows[factor] = mean((axis,)) - mean(()), values.shape[axis] - 1
    for a, b in combinations(range(len(FACTORS)), 2):
        part = mean((a, b)) - mean((a,)) - mean((b,)) + mean(())
        rows[f"{FACTORS[a]} and {FACTORS[b]}"] = part, (values.shape[a] - 1) * (values.shape[b] - 1)
    table = pd.DataFrame(
        [(np.square(np.broadcast_to(part, values.shape)).sum(), freedom) for part, freedom in rows.values()],
        index=list(rows), columns=["squares", "freedom"],
    )  # fmt: skip
    total = np.square(values - values.mean()).sum()
    table.loc["rest"] = max(0.0, total - table["squares"].sum()), values.size - 1 - table["freedom"].sum()
    return table


def _half_width(courses: pd.DataFrame, measure: str, found: pd.DataFrame) -> float | None:
    """Of the 95 % interval of a mean over settings of ``pairs``; None without a complete seed."""
    values = _complete(courses, measure)
    if values is None:
        return None
    squares, freedom = analysis_of_variance(values).loc["rest"]
    seeds = _by_setting(found).size()  # a setting's difference has the variance 2 / seeds of a run's
    return float(
        student_t.ppf(0.975, freedom) * np.sqrt(2 * squares / freedom * (1 / seeds).sum()) / len(seeds)
    )


def shares_table(courses: pd.DataFrame) -> pd.DataFrame:
    """Which share of the differences between runs each factor accounts for at the end, and what by chance.

    Of seeds that have all settings; empty as long as there is none.
    """
    columns = {}
    for key, name in ENDS.items():
        values = _complete(courses, key)
        if values is None:
            return pd.DataFrame()
        table = analysis_of_variance(values)
        columns[name] = table["squares"] / table["squares"].sum()
        columns["by chance"] = table["freedom"] / table["freedom"].sum()
    shares = pd.DataFrame(columns)
    return shares[[*ENDS.values(), "by chance"]].map("{:.0%}".format)


def statements(courses: pd.DataFrame) -> list[Statement]:
    """What the factorial decides about each factor, on average over settings.

    Of three seeds on a value for each, of fewer the 95 % interval of ``effects_table``: these are
    observations, whatever the number of settings. Pairs of runs in ``SEEN`` decide nothing; the order of
    settings is that of all runs.
    """
    end = "mean over settings of explained variance on train at the end"
    equal = f"explained variance on train {EQUAL}"
    augmented, fallen = "with augmentation minus without", "constant rate minus falling rate"
    made = [
        Statement(
            "Without augmentation fine classes explain less of the variance at the end, at the same schedule"
            f" and weight decay, by more than {MOVED:g}",
            f"{end}, {augmented}",
            _lost(courses, "augmentation"),
            MOVED,
        ),
        Statement(
            "At equal train accuracy, too, fine classes explain less of the variance without augmentation, by"
            f" more than {MOVED:g}",
            f"{equal}, {augmented}; bounds over all settings",
            _lost_at_equal(courses, "augmentation"),
            MOVED,
        ),
        Statement(
            "Where the learning rate falls, fine classes explain less of the variance at the end than where"
            f" it stays, by more than {MOVED:g}",
            f"{end}, {fallen}",
            _lost(courses, "schedule"),
            MOVED,
        ),
        Statement(
            "At equal train accuracy, too, fine classes explain less of the variance where the learning rate"
            f" falls, by more than {MOVED:g}",
            f"{equal}, {fallen}; bounds over all settings",
            _lost_at_equal(courses, "schedule"),
            MOVED,
        ),
        Statement(
            "Another weight decay than 5e-4 leaves less explained variance at the end, by more than"
            f" {MOVED:g}",
            f"{end}, weight decay 5e-4 minus the other",
            _lost(courses, "weight decay"),
            MOVED,
        ),
        Statement(
            "The more training images a setting fits, the less fine classes explain at the end",
            "minus Kendall's rank correlation of train accuracy and explained variance over settings, means"
            " over seeds; its exact test",
            _fitted(courses),
        ),
    ]
    return [statement for statement in made if statement.cases]


def _contrasts(courses: pd.DataFrame, factor: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name and ``pairs`` of each contrast of a factor, without those of which both runs were seen before."""
    for of_factor, level, against in CONTRASTS:
        if of_factor == factor:
            found = pairs(courses, factor, level, against)
            place = FACTORS.index(factor)
            seen = [
                all((*key[:place], value, *key[place:]) in SEEN for value in (level, against))
                for key in found.index
            ]
            yield _named(factor, level, against), found[~np.array(seen, dtype=bool)]


def _lost(courses: pd.DataFrame, factor: str) -> list[Case | Bounded]:
    """Minus the mean of ``pairs`` over settings at the end: by seed, or of too few of them its interval.

    A setting's difference is the mean over its seeds, as in ``effects_table``.
    """
    cases, n = [], int(at_end(courses)["n"].min())
    for name, found in _contrasts(courses, factor):
        if found.empty:
            continue
        of_seed = -found["explained_variance"].groupby(level="seed").mean()
        name = f"{name}, pairs: {len(found)}"
        half = _half_width(courses, "explained_variance", found)
        if len(of_seed) >= FEWEST_SEEDS or half is None:
            cases.append(Case(name, of_seed.tolist(), n))
        else:
            mean = -_by_setting(found)["explained_variance"].mean().mean()
            cases.append(Bounded(name, mean - half, mean + half, len(of_seed), n))
    return cases


def _lost_at_equal(courses: pd.DataFrame, factor: str) -> list[Bounded]:
    """The same at equal accuracy, between the outermost bounds of all pairs."""
    cases, n = [], int(courses["n"].min())
    for name, found in _contrasts(courses, factor):
        found = found.dropna(subset=["least", "most"])
        if len(found):
            least, most = found["least"].min(), found["most"].max()
            seeds = found.index.unique("seed").size
            cases.append(Bounded(f"{name}, pairs: {len(found)}", -most, -least, seeds, n))
    return cases


def _fitted(courses: pd.DataFrame) -> list[Tested]:
    """By augmentation, minus Kendall's correlation of accuracy and explained variance over settings."""
    cases = []
    for augmentation, of_kind in at_end(courses).groupby(level="augmentation"):
        of_setting = of_kind[["accuracy", "explained_variance"]].groupby(level=FACTORS[1:]).mean().dropna()
        if len(of_setting) < FEWEST or (of_setting.nunique() == 1).any():
            continue
        found = kendalltau(*of_setting.to_numpy().T)
        seeds = of_kind.index.unique("seed").size
        name = f"augmentation {augmentation}"
        cases.append(Tested(name, -float(found.statistic), float(found.pvalue), seeds, len(of_setting)))
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
    lines = {}
    for (augmentation, schedule, decay, _), course in courses.groupby(level=[*FACTORS, "seed"]):
        course = course.sort_values("epoch")
        over_epochs, over_errors = panels[:, schedules.index(schedule)]
        style = {"color": f"C{decays.index(decay)}", "ls": "-" if augmentation == "none" else "--", "lw": 1}
        label = f"weight decay {decay:g}, {'no augmentation' if augmentation == 'none' else augmentation}"
        explained, error = course["explained_variance"], 1 - course["accuracy"]
        (lines[label],) = over_epochs.plot(course["epoch"], explained, **style)
        over_errors.plot(error.clip(lower=1e-4), explained, **style)
        over_errors.plot(max(error.iloc[-1], 1e-4), explained.iloc[-1], "o", mfc="none", color=style["color"])
    for (over_epochs, over_errors), schedule in zip(panels.T, schedules, strict=True):
        over_epochs.set_title(schedule, fontsize="medium")
        over_epochs.set_xlabel("epoch (0: at initialisation)")
        epochs_axis(over_epochs, courses["epoch"].max())
        over_errors.set(xscale="log", xlabel="train images not fitted, as a share")
    panels[1, 0].invert_xaxis()  # the row shares it
    names = sorted(lines)
    handles = [lines[name] for name in names]
    figure.legend(handles, names, loc="outside lower center", ncols=len(decays), fontsize="small")
    figure.supylabel("explained variance, train", fontsize="medium")
    figure.suptitle(title)
    ends = at_end(courses)["explained_variance"]
    words = "; ".join(
        f"augmentation {augmentation}, {schedule}: {of.min():.2f} to {of.max():.2f}"
        for (augmentation, schedule), of in ends.groupby(level=["augmentation", "schedule"])
    )
    return described(panels[0, 0], f"{title}. Explained variance on train at the end, {words}.")
