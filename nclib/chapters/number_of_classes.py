"""Chapter 14: when the number of classes is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix

from nclib.chapters.conclusions import Case, Statement
from nclib.chapters.figures import MARKERS, described, stacked_panels, theme
from nclib.chapters.statistics import SHARE, UP_TO_ONE, error_bar
from nclib.chapters.tables import shown_split
from nclib.measures.cluster_number import CRITERIA, MOST, choose_k
from nclib.measures.reconstruction import match_labels, reconstruct_labels
from nclib.runs.evaluation import fine_per_coarse
from nclib.runs.run import Run

OURS = "nclib.subpopulations"  # among the methods of benchmarks/results/hidden_classes.json
NEVER_ONE = (  # of them, those that divide every class, since they choose a number from two on
    "k-means, silhouette",
    "over-clustering as in GEORGE",
    "principal direction as in LELP",
)
COMPARED = {  # cells of tables of the same file
    "index": "{rand:z.2f} ({found} of {classes})",
    "number": "{right} + {off_by_one} of {classes}",
    "controls": "{false_alarms} of {controls}",
}
MOSTLY = 0.5  # our choice
CONTROLS_COLUMNS = [
    "data",
    "fine class",
    "images in the smaller part",
    "of them taken for another label",
    "of the larger part",
]


def statements(
    quality: pd.DataFrame, numbers: pd.DataFrame, live: str, n: int, opened: Sequence[Case] = ()
) -> list[Statement]:
    """What this chapter's runs decide.

    Parameters
    ----------
    quality : of ``wrong_k``.
    numbers : of ``chosen_k``; the runs of ``quality`` are those of its case "two".
    live : the name of the page's own runs.
    n : images of each run that were clustered.
    opened : what the third statement measures, of other runs.
    """
    by_k = quality.pivot(index="seed", columns="k", values=["accuracy", "purity", "ari"])
    true = numbers.loc[numbers["case"] == "two", "true"].unique()
    one, several = numbers[numbers["true"] == 1], numbers[numbers["true"] > 1]

    def case(values: pd.Series) -> list[Case]:
        return [Case(live, values.tolist(), n)]

    found = []
    if len(several):
        correct = _correct(several)
        found.append(
            Statement(
                "Of several classes, prediction strength finds the number more often than the silhouette",
                "share of super-classes of several classes with the correct number, prediction strength minus"
                " silhouette",
                [*case(correct["prediction-strength"] - correct["silhouette"]), *opened],
            )
        )
    if len(one):
        found.append(
            Statement(
                "Of one class, prediction strength finds that it is one",
                "share of super-classes of one class with the correct number",
                case(_correct(one)["prediction-strength"]),
                MOSTLY,
            )
        )
    if len(true) != 1 or 2 * true[0] > quality["k"].max():  # no one number is right
        return found
    k, surplus = true[0], 2 * true[0]
    fall = {measure: by_k[measure][k] - by_k[measure][surplus] for measure in ("accuracy", "purity")}
    return [
        Statement(
            "The adjusted Rand index is highest at the true number of clusters",
            "adjusted Rand index with the true number, minus the highest with another number",
            case(by_k["ari"][k] - by_k["ari"].drop(columns=k).max(axis=1)),
        ),
        Statement(
            "Surplus clusters lower the accuracy of a one-to-one matching and not the purity",
            "fall of accuracy minus fall of purity, from the true number of clusters to twice as many",
            case(fall["accuracy"] - fall["purity"]),
        ),
        *found,
    ]


def _correct(numbers: pd.DataFrame) -> pd.Series:
    """Share of correct numbers by method and seed."""
    return (numbers["true"] == numbers["chosen"]).groupby([numbers["method"], numbers["seed"]]).mean()


def wrong_k(runs: Iterable[Run], most: int = MOST) -> pd.DataFrame:
    """What k-means finds inside the super-classes with 1 to ``most`` clusters each.

    Returns
    -------
    A row for each "seed" and "k". "accuracy" of the matched labels, in which a cluster without a class
    is wrong; "purity", each cluster counted as its most frequent class; "ari", the adjusted Rand index, mean
    over super-classes: 0 by chance, 1 for the same division.
    """
    rows = []
    for run in runs:
        f = run.features(shown_split(run))
        fine, coarse = f.fine.numpy(), f.coarse.numpy()
        for k in range(1, most + 1):
            pseudo = reconstruct_labels(f.h, coarse, k, "kmeans")
            labels = (coarse == c for c in range(run.grouping.num_coarse))
            row = {"seed": run.config.seed, "k": k, "accuracy": match_labels(pseudo, fine).accuracy}
            row["purity"] = contingency_matrix(pseudo, fine).max(axis=1).sum() / len(fine)
            row["ari"] = float(np.mean([adjusted_rand_score(fine[at], pseudo[at]) for at in labels]))
            rows.append(row)
    return pd.DataFrame(rows)


def chosen_k(
    cases: Mapping[str, Sequence[Run]], methods: Sequence[str] = tuple(CRITERIA), most: int = MOST
) -> pd.DataFrame:
    """The number of clusters that ``nclib.choose_k`` finds in every super-class, beside the true one.

    Returns
    -------
    A row for each "case", "seed", "label" and "method", with "true" and "chosen".
    """
    rows = []
    for case, runs in cases.items():
        for run in runs:
            f = run.features(shown_split(run))
            for method in methods:
                chosen = choose_k(f.h, f.coarse, method, most).tolist()
                for label, (true, k) in enumerate(zip(fine_per_coarse(run), chosen, strict=True)):
                    row = {"case": case, "seed": run.config.seed, "label": label}
                    rows.append(row | {"method": method, "true": true, "chosen": k})
    return pd.DataFrame(rows)


@theme()
def number_of_clusters_figure(quality: pd.DataFrame, chosen: pd.DataFrame, title: str) -> Axes:
    """Reconstruction by the number of clusters, and the number that each criterion chooses.

    Parameters
    ----------
    quality : of ``wrong_k``. Lines are means over seeds, bands those of ``error_bar``.
    chosen : of ``chosen_k``. Colours count super-classes and seeds.
    """
    methods, trues = list(chosen["method"].unique()), sorted(chosen["true"].unique())
    most = max(quality["k"].max(), chosen["chosen"].max())
    figure, stacks = stacked_panels(1 + len(methods), 2, (4.2, 3.4))
    panels = stacks[:, 0]
    measures = {"accuracy": SHARE, "purity": SHARE, "ari": UP_TO_ONE}
    for number, (measure, limits) in enumerate(measures.items()):
        means = quality.groupby("k")[measure].agg(error_bar, limits)
        mean, below, above = np.array(means.tolist()).T
        name = "adjusted Rand index" if measure == "ari" else measure
        panels[0].plot(means.index, mean, color=f"C{number}", marker=MARKERS[number], ms=4, label=name)
        panels[0].fill_between(means.index, mean - below, mean + above, color=f"C{number}", alpha=0.2, lw=0)
    panels[0].set(xlabel="clusters in each super-class", ylim=(-0.03, 1.03), xticks=range(1, most + 1))
    panels[0].legend(fontsize="small")
    words = []
    for panel, method in zip(panels[1:], methods, strict=True):
        of_method = chosen[chosen["method"] == method]
        counts = of_method.groupby(["true", "chosen"]).size().unstack(fill_value=0)
        counts = counts.reindex(index=trues, columns=range(1, most + 1), fill_value=0)
        shares = counts.div(counts.sum(axis=1), axis=0)
        sns.heatmap(
            shares, vmin=0, vmax=1, cmap="mako_r", annot=counts, fmt="d", cbar=False, square=True, ax=panel,
            annot_kws={"fontsize": 9},
        )  # fmt: skip
        right = of_method["true"] == of_method["chosen"]
        of_one = of_method["true"] == 1
        parts = {"one": right[of_one], "several": right[~of_one]}
        said = ", ".join(f"{each.sum()} of {len(each)} ({name})" for name, each in parts.items() if len(each))
        panel.set_title(f"{method}\ncorrect: {said}", fontsize="medium")
        panel.set(xlabel="clusters chosen", ylabel="classes in the super-class")
        panel.tick_params(axis="y", rotation=0)
        words.append(f"{method}: {said} correct")
    figure.suptitle(title)
    return described(panels[0], f"{title}. {'; '.join(words)}.")


def rates(record: Mapping[str, Any]) -> pd.DataFrame:
    """Rows of benchmarks/results/subpopulations.json, with "cell", a rate and its interval, and "verdict".

    A level is "exceeded" where the interval of the rate lies above it, "held" where the interval does not
    reach above it, and else "undecided".
    """
    table = pd.DataFrame(record["rows"])
    level = record["level"]
    table["cell"] = [f"{r.rate:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in table.itertuples()]
    table["verdict"] = np.where(
        table["low"] > level, "exceeded", np.where(table["high"] <= level, "held", "undecided")
    )
    return table


def level_table(record: Mapping[str, Any]) -> pd.DataFrame:
    """Share of single populations that are divided, by samples and dimension; a dash where none was drawn."""
    one = rates(record).query("kind == 'one'").rename(columns={"samples": "n", "dimension": "D"})
    cells = one.pivot(index=["n", "D"], columns="population", values="cell")
    return cells[one["population"].unique()].fillna("-").rename_axis(columns=None)


def further_level_table(record: Mapping[str, Any]) -> pd.DataFrame:
    """The same for other populations; for arcs with their deepest valley."""
    names = {
        "ten classes": "any of ten single populations",
        "same sample": "Gaussian of {}, k-means axis and test from the same samples",
        "other half": "Gaussian of {}, k-means axis from one half, test on the other",
        "shuffled": "{}, features permuted inside a fine class",
        "arc": "{}",
    }
    rows = rates(record).query("kind in @names")
    columns = {
        "population": [names[row.kind].format(row.population) for row in rows.itertuples()],
        "n": rows["samples"],
        "D": rows["dimension"],
        "draws": rows["draws"],
        "deepest valley along a line": rows["population"].map(record["arcs"]).map("{:.2f}".format),
        "divided": rows["cell"],
    }
    return pd.DataFrame(columns).set_index("population").replace("nan", "-")


def level_in_words(record: Mapping[str, Any]) -> str:
    """How many settings decide that the level is held, or exceeded, where it is proved."""
    table = rates(record)
    one_mode = [name for name, depth in record["arcs"].items() if depth == 0]
    proved = table[table["kind"].isin(("one", "ten classes")) | table["population"].isin(one_mode)]
    counts, draws = proved["verdict"].value_counts(), proved["draws"]
    held, exceeded, undecided = (counts.get(name, 0) for name in ("held", "exceeded", "undecided"))
    return (
        f"Level {record['level']:g}, {len(proved)} settings with one mode along every line, {draws.min():,} "
        f"to {draws.max():,} draws each: held in {held}, exceeded in {exceeded}, undecided in {undecided}; "
        f"highest rate {proved['rate'].max():.3f}."
    )


def along_k_means(record: Mapping[str, Any], kind: str) -> float:
    """Percentage of Gaussians that look like two along a k-means axis; ``kind`` says in which samples."""
    return 100 * next(row["rate"] for row in record["rows"] if row["kind"] == kind)


def comparison_table(record: Mapping[str, Any], what: str, fresh: bool) -> pd.DataFrame:
    """Methods in rows, data in columns, from benchmarks/results/hidden_classes.json.

    Parameters
    ----------
    fresh : as in ``comparison_in_words``.
    what : "index", the adjusted Rand index, and how many super-classes are divided; "number", how many have
        the right number of parts, and how many are off by one; "controls", how many of these are divided.
    """
    table = pd.DataFrame(record["rows"])
    table = table[table["fresh"] == fresh]
    if what != "controls":
        table = table[table["classes"] > 0]
    table["cell"] = [COMPARED[what].format(**row) for row in table.to_dict("records")]
    cells = table.pivot(index="method", columns="data", values="cell")
    cells = cells.loc[table["method"].unique(), table["data"].unique()].rename_axis(columns=None)
    if what == "controls":
        cells["s for a class"] = table.groupby("method")["seconds"].mean().map("{:.2f}".format)
    return cells


def comparison_in_words(record: Mapping[str, Any], fresh: bool) -> str:
    """On which data the test has the highest adjusted Rand index, and which method has it elsewhere.

    Parameters
    ----------
    fresh : whether to speak of the data that no choice in the test has seen, or of the others.
    """
    won, lost = [], []
    table = pd.DataFrame(record["rows"]).dropna(subset="rand")
    table = table[table["fresh"] == fresh]
    for data, rows in table.groupby("data", sort=False):
        own, best = rows[rows["method"] == OURS].iloc[0], rows.loc[rows["rand"].idxmax()]
        if best["rand"] == own["rand"]:
            won.append(data)
            continue
        lost.append(
            f"  {data}: {best['method']} {best['rand']:.2f}, it {own['rand']:.2f}; they divide "
            f"{best['false_alarms']} and {own['false_alarms']} of {own['controls']} controls"
        )
    first = f"{OURS} has the highest index on {len(won)} of {len(won) + len(lost)}: {', '.join(won) or '-'}."
    return "\n".join([first, *(["It loses on"] if lost else []), *lost])


def divided_controls_table(record: Mapping[str, Any]) -> pd.DataFrame:
    """Fine classes that the test divides, and the images in either part that the network misplaces."""
    rows = [
        (
            row["data"],
            each["class"],
            each["smaller_part"],
            f"{each['confused_in_smaller']:.0%}",
            f"{each['confused_in_larger']:.0%}",
        )
        for row in record["rows"]
        for each in row.get("divided_controls", [])
    ]
    return pd.DataFrame(rows, columns=CONTROLS_COLUMNS).set_index(["data", "fine class"])


def divided_controls_in_words(record: Mapping[str, Any]) -> str:
    """In how many divided fine classes the network misplaces most images of the smaller part."""
    shares = [
        each["confused_in_smaller"] for row in record["rows"] for each in row.get("divided_controls", [])
    ]
    mistaken = sum(share > 0.5 for share in shares)
    return f"They make up most of the smaller part in {mistaken} of {len(shares)} divided fine classes."


def comparison_statements(record: Mapping[str, Any]) -> list[Statement]:
    """What the comparison of methods decides, from runs that no choice in the test has seen.

    A case is an experiment, its values those of the seeds.
    """
    table = pd.DataFrame(record["rows"])
    divided: dict[str, list[float]] = {}
    better: dict[str, list[float]] = {}
    n: dict[str, tuple[int, int]] = {}
    for data, rows in table[table["fresh"]].groupby("data", sort=False):
        experiment = data.rpartition("-seed")[0] or data
        own, others = rows[rows["method"] == OURS].iloc[0], rows[rows["method"] != OURS]
        rivals = others[~others["method"].isin(NEVER_ONE)]
        n[experiment] = int(own["controls"]), int(own["classes"])
        gain = (rivals["false_alarms"].median() - own["false_alarms"]) / own["controls"]
        divided.setdefault(experiment, []).append(gain)
        if own["classes"]:
            better.setdefault(experiment, []).append(own["rand"] - others["rand"].max())
    fewer = [Case(name, values, n[name][0]) for name, values in divided.items()]
    closer = [Case(name, values, n[name][1]) for name, values in better.items()]
    return [
        Statement(
            "The test divides fewer controls than most other methods that can say one",
            "share of controls divided, median of these others minus the test's",
            fewer,
        ),
        Statement(
            "The test finds the hidden sub-classes better than any other method",
            "adjusted Rand index of the test, minus the highest of the others",
            closer,
        ),
    ]


@theme()
def power_figure(record: Mapping[str, Any], title: str) -> Axes:
    """Share of pairs of Gaussians that are divided, by their distance; bars are exact 95 % intervals."""
    two = rates(record).query("kind == 'two'")
    equal = {
        f"n = {n}, D = {d}": rows for (n, d), rows in two[two["ratio"] == 1].groupby(["samples", "dimension"])
    }
    large = two[(two["samples"] == two["samples"].max()) & (two["dimension"] == two["dimension"].min())]
    uneven = {f"1 : {r:.0f}": rows for r, rows in large.groupby("ratio")}
    figure, stacks = stacked_panels(2, 2, (4.4, 3.4))
    names = ("equal sizes", f"n = {two['samples'].max()}, D = {two['dimension'].min()}, by sizes")
    for (panel,), curves, name in zip(stacks, (equal, uneven), names, strict=True):
        for number, (label, rows) in enumerate(curves.items()):
            rows = rows.sort_values("separation")
            bars = np.stack([rows["rate"] - rows["low"], rows["high"] - rows["rate"]]).clip(0)
            panel.errorbar(
                rows["separation"], rows["rate"], bars, color=f"C{number}",
                marker=MARKERS[number % len(MARKERS)], ms=4, lw=1.2, capsize=2, label=label,
            )  # fmt: skip
        panel.axhline(record["level"], color="0.5", lw=0.8, ls=":")
        panel.set(xlabel="distance of means, within-class widths", ylim=(-0.03, 1.03), title=name)
        panel.legend(fontsize="x-small")
    stacks[0][0].set_ylabel("share divided")
    figure.suptitle(title)
    words = [f"{label}: {', '.join(f'{r.rate:.2f} at {r.separation:g}' for r in rows.itertuples())}"
             for label, rows in (equal | uneven).items()]  # fmt: skip
    return described(stacks[0][0], f"{title}. {'; '.join(words)}.")
