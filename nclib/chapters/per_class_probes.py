"""Chapter 6: accuracies of fine classes against their MSDR.

    classes = averaged_over_seeds(per_class(run) for run in runs)      # a row for each fine class
    correlation(classes["msdr_train"], classes["probe"], classes["super-class"])

Yang, Steinhardt and Hu (2023), rebuttal, section J. The statistics, and "inside" and "coarse", are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike
from scipy.stats import linregress, pearsonr, rankdata, spearmanr
from scipy.stats import t as student_t
from sklearn.model_selection import StratifiedKFold

from nclib.chapters import statistics
from nclib.chapters.conclusions import Case, Statement, Tested
from nclib.chapters.figures import INK, MARKERS, WIDTH, described, stacked_panels, theme
from nclib.measures.distances import distances_of, msdr_of
from nclib.measures.probe import linear_probe
from nclib.networks.features import FeatureSet
from nclib.runs import evaluation
from nclib.runs.run import Run

ACCURACIES = {  # columns of ``per_class``, all on test
    "probe": "probe, all classes",
    "inside": "probe inside the super-class",
    "coarse": "network, coarse label",
}
RELEASED = (
    "*-unaugmented-*", "cifar10-full-seed*", "cifar10-paper-seed*", "cifar100-laptop-*",
    "fashion-narrow-cross-entropy-*",
)  # fmt: skip
OTHER_LOSSES = ("fashion-narrow-mse-*", "fashion-narrow-nc-*")
PERMUTATIONS = 9_999
FEWEST = 4  # classes: Fisher's interval of a correlation divides by the root of their number minus 3


def per_class(run: Run) -> pd.DataFrame:
    """MSDR, variance and test accuracies of every fine class that has siblings, at the end of training.

    Returns
    -------
    DataFrame, a row for each class: "class", "super-class", "seed", "msdr_train" and
    "msdr_test"; "variance_train" and "variance_test", within the class, D(c, c) / 2; "probe",
    accuracy of a linear probe over all fine classes, see
    ``nclib.runs.evaluation.results``;
    "inside" of ``inside_accuracy`` and "coarse" of ``coarse_accuracy``, not a number for a run that has no
    test features.

    Raises
    ------
    ValueError : fewer than four classes have siblings.
    """
    group = run.grouping.fine_to_coarse
    rows = pd.DataFrame(
        {"class": run.grouping.fine_names, "super-class": group.numpy(), "seed": run.config.seed}
    )
    for split in ("train", "test"):
        moments = run.moments(split)
        rows[f"msdr_{split}"] = msdr_of(moments, group).numpy()
        rows[f"variance_{split}"] = distances_of(moments).diagonal().numpy() / 2
    rows["probe"] = evaluation.results(run, methods=evaluation.METHODS[:1])["probe_per_class"]
    f = test_features(run)
    rows["inside"] = np.nan if f is None else inside_accuracy(f)
    rows["coarse"] = np.nan if f is None else coarse_accuracy(f)
    rows = rows.dropna(subset=["msdr_train"])
    if len(rows) < FEWEST:
        raise ValueError(f"{run}: {len(rows)} classes have siblings; it takes {FEWEST} or more")
    return rows


def test_features(run: Run) -> FeatureSet | None:
    """Test features of a run, or None of one that was released without."""
    return run.features("test") if "test" in run.feature_splits else None


def coarse_accuracy(f: FeatureSet) -> np.ndarray:
    """Accuracy of the network on the coarse label, by fine class, (C,)."""
    correct = f.logits().argmax(dim=1) == f.coarse
    return _share(correct.numpy(), f.fine.numpy())


def inside_accuracy(f: FeatureSet) -> np.ndarray:
    """Accuracy of every fine class among its siblings only: a linear probe that is given the super-class.

    Parameters
    ----------
    f : features of one split; probes are trained and judged on it, by cross-validation: five folds with equal
        shares of every class.

    Returns
    -------
    (C,) float64, 1 for a class without siblings.

    Notes
    -----
    The definition is ours. An error of a probe over all classes may lie inside a super-class or between two;
    this one sees only the former. It needs no train features, so it is the same for released runs.
    """
    fine, coarse = f.fine.numpy(), f.coarse.numpy()
    correct = np.ones(len(fine), dtype=bool)
    for group in np.unique(coarse):
        rows = np.flatnonzero(coarse == group)
        h, y = f.h[rows], fine[rows]
        if len(np.unique(y)) == 1:
            continue
        for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(h, y):
            correct[rows[test]] = linear_probe(h[train], y[train]).predict(h[test]) == y[test]
    return _share(correct, fine)


def _share(correct: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.bincount(y, weights=correct) / np.bincount(y)


def averaged_over_seeds(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Mean of every class over the seeds of one experiment: a row for each class.

    Parameters
    ----------
    tables : of ``per_class``, one a seed.

    Notes
    -----
    Seeds of one class are repeated measurements: they make its point more precise, but are no further
    points.
    """
    joined = pd.concat(tables)
    return joined.drop(columns="seed").groupby(["class", "super-class"], sort=False).mean().reset_index()


class Correlation(NamedTuple):
    """Correlation of two numbers over classes.

    Attributes
    ----------
    r : Pearson's correlation.
    low, high : its 95 % interval, by Fisher's transformation.
    p : two-sided, of r, if classes were independent and normal.
    p_restricted : two-sided, of r, by permutations that keep siblings together.
    rho : Spearman's rank correlation.
    p_rho_restricted : as ``p_restricted``, of rho.
    n : classes.
    """

    r: float
    low: float
    high: float
    p: float
    p_restricted: float
    rho: float
    p_rho_restricted: float
    n: int

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero, and the permutations agree at 5 %."""
        return (self.low > 0 or self.high < 0) and self.p_restricted < 0.05


def correlation(x: ArrayLike, y: ArrayLike, group: ArrayLike) -> Correlation:
    """Correlation of two numbers over classes.

    Parameters
    ----------
    x, y : (C,) one number a class.
    group : (C,) super-class of every class.

    Raises
    ------
    ValueError : fewer than four classes, or a number that is not finite.

    Notes
    -----
    Siblings share the distance between them, so their MSDRs are not independent.
    ``p_restricted`` respects that: it exchanges whole super-classes, and siblings inside a super-class.
    """
    x, y, group = (np.asarray(values) for values in (x, y, group))
    if len(x) < FEWEST or not np.isfinite([x, y]).all():
        raise ValueError(f"a correlation needs {FEWEST} or more classes with finite numbers; got {x}, {y}")
    pearson = pearsonr(x, y)
    low, high = pearson.confidence_interval(0.95)
    return Correlation(
        r=float(pearson.statistic),
        low=float(low),
        high=float(high),
        p=float(pearson.pvalue),
        p_restricted=permutation_p(x, y, group),
        rho=float(spearmanr(x, y).statistic),
        p_rho_restricted=permutation_p(rankdata(x), rankdata(y), group),
        n=len(x),
    )


def permutation_p(x: ArrayLike, y: ArrayLike, group: ArrayLike, permutations: int = PERMUTATIONS) -> float:
    """Two-sided p of Pearson's correlation by restricted permutations, which keep siblings together.

    Parameters
    ----------
    x, y : (C,) one number a class.
    group : (C,) super-classes. Those of one size change places as a whole, then classes inside each.
    permutations : drawn at random; the arrangement that was observed counts as one more.

    Raises
    ------
    ValueError : arrays of different lengths, or a number that is not finite.
    """
    x, y, group = (np.asarray(values) for values in (x, y, group))
    if not x.shape == y.shape == group.shape or not np.isfinite([x, y]).all():
        raise ValueError(
            f"permutations need one finite number a class; got {x}, {y} and super-classes {group}"
        )
    rng = np.random.default_rng(0)
    by_size: dict[int, list[np.ndarray]] = {}
    for one in np.unique(group):
        members = np.flatnonzero(group == one)
        by_size.setdefault(len(members), []).append(members)
    drawn = np.empty((permutations, len(y)))
    for size, members in by_size.items():
        order = rng.random((permutations, len(members))).argsort(axis=1)
        moved = rng.permuted(y[np.array(members)][order], axis=2)  # (permutations, super-classes, size)
        drawn[:, np.concatenate(members)] = moved.reshape(permutations, len(members) * size)
    products, observed = (abs((values - y.mean()) @ (x - x.mean())) for values in (drawn, y))
    return float((1 + np.sum(products >= observed * (1 - 1e-12))) / (1 + permutations))


def regression_band(x: ArrayLike, y: ArrayLike, at: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares line at some places, and half the width of its 95 % interval.

    Parameters
    ----------
    x, y : (n,) points.
    at : (k,) places.

    Returns
    -------
    Heights of the line (k,), and half widths (k,) by Student's t. The band is where the line may lie, not
    where a new point may.
    """
    x, y, at = (np.asarray(values, dtype=float) for values in (x, y, at))
    line = linregress(x, y)
    # the line's height at the mean of x and its slope are uncorrelated
    residual = y - line.intercept - line.slope * x
    centre = np.sqrt((residual**2).sum() / (len(x) - 2) / len(x))
    error = np.hypot(centre, line.stderr * (at - x.mean()))
    return line.intercept + line.slope * at, student_t.ppf(0.975, len(x) - 2) * error


class Compared(NamedTuple):
    """Accuracy and MSDR of the fine classes of one experiment.

    Attributes
    ----------
    data : its name.
    accuracy : a column of ``per_class``.
    split : whose MSDR.
    tables : of ``per_class``, one a seed.
    classes : their ``averaged_over_seeds``.
    found : the ``correlation`` over classes.
    """

    data: str
    accuracy: str
    split: str
    tables: Sequence[pd.DataFrame]
    classes: pd.DataFrame
    found: Correlation


def correlations(
    tables_of: Mapping[str, Sequence[pd.DataFrame]],
    accuracies: Sequence[str] = ("probe",),
    splits: Sequence[str] = ("train",),
) -> list[Compared]:
    """``correlation`` of MSDR and accuracies by data; classes are means over seeds.

    Parameters
    ----------
    tables_of : for each name tables of ``per_class``, one a seed.
    accuracies : columns of ``per_class``; data without them are left out.
    splits : whose MSDR.
    """
    compared = []
    for name, tables in tables_of.items():
        classes = averaged_over_seeds(tables)
        for accuracy in accuracies:
            if classes[accuracy].isna().any():
                continue
            for split in splits:
                found = correlation(classes[f"msdr_{split}"], classes[accuracy], classes["super-class"])
                compared.append(Compared(name, accuracy, split, tables, classes, found))
    return compared


def rank_correlation(classes: pd.DataFrame, of: str, accuracy: str = "probe", split: str = "train") -> float:
    """Spearman's correlation over classes of an accuracy with "msdr", or with minus the "variance".

    The variance within a class alone: the smaller, the larger is MSDR, whatever the distance of siblings.

    Parameters
    ----------
    classes : of ``per_class``, or averaged over seeds.

    Returns
    -------
    float, not a number where all accuracies are equal.
    """
    if classes[accuracy].nunique() < 2:
        return np.nan
    sign = {"msdr": 1, "variance": -1}[of]
    return float(spearmanr(sign * classes[f"{of}_{split}"], classes[accuracy]).statistic)


def statements(tables_of: Mapping[str, Sequence[pd.DataFrame]]) -> list[Statement]:
    """What this chapter's runs decide.

    Parameters
    ----------
    tables_of : for each name tables of ``per_class``, one a seed.

    Notes
    -----
    A value is a correlation over the classes of one run: n counts classes, and intervals over seeds are for
    these classes.
    Whether a correlation would be found with other classes, the restricted permutations say: one number for
    each name, of the classes averaged over seeds. Runs in which an accuracy is the same for all classes
    have no correlation, and are left out.
    """

    def cases(effect: Callable[[pd.DataFrame], float], of: Mapping = tables_of, at: str = "") -> list[Case]:
        values = {name: [effect(t) for t in tables] for name, tables in of.items()}
        finite = {name: [v for v in found if np.isfinite(v)] for name, found in values.items()}
        return [Case(name + at, found, len(of[name][0])) for name, found in finite.items() if found]

    def inside_minus_coarse(split: str) -> list[Case]:
        return cases(
            lambda t: (
                rank_correlation(t, "msdr", "inside", split) - rank_correlation(t, "msdr", "coarse", split)
            ),
            with_test_features(tables_of),
            f", MSDR on {split}",
        )

    averaged = [
        Tested(c.data, c.found.rho, c.found.p_rho_restricted, len(c.tables), c.found.n)
        for c in correlations(tables_of)
        if np.isfinite(c.found.rho)
    ]
    return [
        Statement(
            "For these classes, whatever the seed: a higher MSDR on training images goes with a higher probe"
            " accuracy",
            "rank correlation over the classes of a run, MSDR on train with probe accuracy",
            cases(lambda t: rank_correlation(t, "msdr")),
        ),
        Statement(
            "Classes with a higher MSDR on training images have a higher probe accuracy, more than when"
            " classes are exchanged at random",
            "rank correlation over classes, averaged over seeds, MSDR on train with probe accuracy; p by"
            " restricted permutations",
            averaged,
        ),
        Statement(
            "MSDR predicts the probe accuracy better than the within-class variance alone does",
            "rank correlation of MSDR on train, minus that of minus the variance on train",
            cases(lambda t: rank_correlation(t, "msdr") - rank_correlation(t, "variance")),
        ),
        Statement(
            "MSDR goes with the accuracy inside super-classes more than with the coarse accuracy",
            "rank correlation of MSDR with the former, minus that with the latter",
            inside_minus_coarse("train") + inside_minus_coarse("test"),
        ),
    ]


def with_test_features(tables_of: Mapping[str, Sequence[pd.DataFrame]]) -> dict[str, list[pd.DataFrame]]:
    """Those tables of ``per_class`` that have the accuracies which take test features."""
    kept = {
        name: [one for one in tables if not one["inside"].isna().any()] for name, tables in tables_of.items()
    }
    return {name: tables for name, tables in kept.items() if tables}


def correlation_table(compared: Iterable[Compared]) -> pd.DataFrame:
    """``correlations`` as text, a row for each."""
    rows = []
    for data, accuracy, split, tables, classes, found in compared:
        alone = rank_correlation(classes, "variance", accuracy, split)
        of_runs = [pearsonr(t[f"msdr_{split}"], t[accuracy]).statistic for t in tables]
        rows.append(
            {"data": data, "accuracy": ACCURACIES[accuracy], "MSDR": split}
            | {"seeds": len(tables), "classes": found.n}
            | {"r": f"{found.r:.2f} ({found.low:.2f} to {found.high:.2f})"}
            | {"p": f"{found.p:.2g}", "p, restricted permutation": f"{found.p_restricted:.2g}"}
            | {"significant": "yes" if found.significant else "no"}
            | {"rank correlation": f"{found.rho:.2f}"}
            | {"its p, restricted permutation": f"{found.p_rho_restricted:.2g}"}
            | {"rank correlation, variance alone": f"{alone:.2f}"}
            | {"r, run by run": statistics.over_seeds(of_runs, "{:.2f}")}
        )
    return pd.DataFrame(rows).set_index(["data", "accuracy", "MSDR"])


SCATTERS = 3  # side by side
MOST_NAMES = 20  # beside points; of more points only the outermost are named
OUTERMOST = 2  # on each side
PLACES = [  # of a name: points between it and its point; right or left of it, above or below it
    (ring, place)
    for ring in (3, 10, 18, 28, 40)
    for place in ((1, 0.5), (-1, -0.5), (1, -0.5), (-1, 0.5), (1, 0), (-1, 0), (0, 1), (0, -1))
]


@theme()
def class_scatter_figure(compared: Sequence[Compared], title: str = "") -> Axes:
    """Accuracy of every fine class against its MSDR, with the regression line and its 95 % interval.

    A column for each name, a row for each accuracy; more names go on below. Points are means over seeds,
    coloured by super-class; small dots are the seeds.

    Parameters
    ----------
    compared : of ``nclib.chapters.per_class_probes.correlations``, as many accuracies for each name.
    """
    by_name: dict[str, list[Compared]] = {}
    for each in compared:
        by_name.setdefault(each.data, []).append(each)
    height = len(compared) // len(by_name)
    wide = min(4.4, WIDTH / min(len(by_name), SCATTERS))  # the final size: names are placed for it
    figure, stacks = stacked_panels(len(by_name), SCATTERS, (wide, 3.1), height=height)
    inches = figure.get_size_inches()
    figure.set_size_inches(max(6.5, inches[0]), inches[1] + 0.4)  # room for the title
    words = []
    for number, (stack, of_name) in enumerate(zip(stacks, by_name.values(), strict=True)):
        for panel, each in zip(stack, of_name, strict=True):
            _class_scatter(panel, each)
            if number % SCATTERS == 0:
                panel.set_ylabel(f"test accuracy, {ACCURACIES[each.accuracy]}", fontsize="small")
            words.append(
                f"{each.data}, {ACCURACIES[each.accuracy]}, {each.found.n} classes: {each.found.r:.2f}"
            )
        stack[-1].set_xlabel(f"MSDR, {of_name[-1].split}")
    figure.suptitle(title or "Probe accuracy of every fine class against its MSDR")
    figure.draw_without_rendering()  # panels take their places
    for stack, of_name in zip(stacks, by_name.values(), strict=True):
        for panel, each in zip(stack, of_name, strict=True):
            _name_points(panel, each.classes, f"msdr_{each.split}", each.accuracy)
    text = f"Accuracy of fine classes against MSDR. Correlations: {'; '.join(words)}."
    return described(stacks[0, 0], text)


def _class_scatter(panel: Axes, compared: Compared) -> None:
    data, accuracy, split, tables, classes, found = compared
    x = f"msdr_{split}"
    _regression(panel, classes[x], classes[accuracy])
    for at, table in enumerate(tables if len(tables) > 1 else []):
        colors = [f"C{group}" for group in table["super-class"]]
        panel.scatter(table[x], table[accuracy], s=5, c=colors, alpha=0.35, lw=0, zorder=2 + at / 100)
    _points(panel, classes, x, accuracy)
    heading = f"r = {found.r:.2f}, p = {found.p:.2g}\nrestricted: p = {found.p_restricted:.2g}"
    panel.set_title(f"{data}\n{heading}", fontsize="small")


def _points(panel: Axes, rows: pd.DataFrame, x: str, y: str) -> None:
    """Points with the look of their super-class, and room for their names."""
    for row in rows.to_dict("records"):
        group = row["super-class"]
        size = 6 if len(rows) <= MOST_NAMES else 4
        panel.plot(row[x], row[y], MARKERS[group % len(MARKERS)], color=f"C{group}", ms=size)
    low = rows[y].min()
    panel.margins(x=0.2)
    panel.set_ylim(low - 0.25 * (1 - low) - 0.005, 1 + 0.1 * (1 - low) + 0.005)  # no accuracy is above 1


def _name_points(panel: Axes, rows: pd.DataFrame, x: str, y: str) -> None:
    """Write the name of each class at the nearest of ``PLACES`` that is free, and inside the panel.

    A name that is not next to its point has a line to it; one for which no place is free is left out.
    """
    outermost = [of(OUTERMOST, by).index for by in (x, y) for of in (rows.nsmallest, rows.nlargest)]
    named = rows.index if len(rows) <= MOST_NAMES else np.unique(outermost)
    point = panel.figure.dpi / 72  # pixels
    at = panel.transData.transform(rows[[x, y]])
    taken = [Bbox.from_bounds(*(place - 3 * point), 6 * point, 6 * point) for place in at]  # by markers
    for index in named:
        row, here = rows.loc[index], at[rows.index.get_loc(index)]
        name = panel.annotate(row["class"], (row[x], row[y]), xytext=(0, 0), textcoords="offset points",
                              fontsize=7, ha="center", va="center")  # fmt: skip
        width, height = name.get_window_extent().size
        width += 2 * point  # between names on one line
        for ring, (right, up) in PLACES:
            away = np.array([right * (width / 2 + ring * point), up * (height / 2 + ring * point)])
            box = Bbox.from_bounds(*(here + away - (width / 2, height / 2)), width, height)
            inside = panel.bbox.contains(*box.min) and panel.bbox.contains(*box.max)
            if inside and box.count_overlaps(taken) == 0:
                break
        else:
            name.remove()
            continue
        taken.append(box)
        name.set_position(away / point)
        if ring > PLACES[0][0]:
            reach = np.clip(here, box.min, box.max)  # the name's corner or side next to the point
            ends = panel.transData.inverted().transform([here, reach])
            panel.plot(*ends.T, color="0.5", lw=0.6, zorder=1.5, scalex=False, scaley=False)


def _regression(panel: Axes, x: pd.Series, y: pd.Series) -> None:
    """Least-squares line of some points, its 95 % interval as a band."""
    at = np.linspace(x.min(), x.max(), 101)
    height, half = regression_band(x, y, at)
    panel.plot(at, height, color=INK, lw=1)
    panel.fill_between(at, height - half, height + half, color="0.5", alpha=0.15, lw=0)
