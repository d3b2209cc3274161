"""Chapter 14: when the number of classes is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from sklearn.metrics import adjusted_rand_score

from nclib.chapters.conclusions import Case, Statement
from nclib.chapters.figures import MARKERS, described, stacked_panels, theme
from nclib.chapters.statistics import interval
from nclib.chapters.tables import shown_split
from nclib.measures.cluster_number import CRITERIA, MOST, choose_k
from nclib.measures.reconstruction import match_labels, reconstruct_labels
from nclib.runs.evaluation import fine_per_coarse
from nclib.runs.run import Run


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
    correct = (numbers["true"] == numbers["chosen"]).groupby([numbers["method"], numbers["seed"]]).mean()

    def case(values: pd.Series) -> list[Case]:
        return [Case(live, values.tolist(), n)]

    found = [
        Statement(
            "Prediction strength finds the number of classes more often than the silhouette",
            "share of super-classes with the correct number, prediction strength minus silhouette",
            [*case(correct["prediction-strength"] - correct["silhouette"]), *opened],
        )
    ]
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
            table = np.zeros((pseudo.max() + 1, fine.max() + 1))
            np.add.at(table, (pseudo, fine), 1)
            labels = (coarse == c for c in range(run.grouping.num_coarse))
            row = {"seed": run.config.seed, "k": k, "accuracy": match_labels(pseudo, fine).accuracy}
            row["purity"] = table.max(axis=1).sum() / len(fine)
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
    quality : of ``wrong_k``. Lines are means over seeds, bands their 95 % intervals.
    chosen : of ``chosen_k``. Colours count super-classes and seeds.
    """
    methods, trues = list(chosen["method"].unique()), sorted(chosen["true"].unique())
    most = max(quality["k"].max(), chosen["chosen"].max())
    figure, stacks = stacked_panels(1 + len(methods), 2, (4.2, 3.4))
    panels = stacks[:, 0]
    for number, measure in enumerate(("accuracy", "purity", "ari")):
        means = quality.groupby("k")[measure].agg(interval)
        mean, half = np.array(means.tolist()).T
        name = "adjusted Rand index" if measure == "ari" else measure
        panels[0].plot(means.index, mean, color=f"C{number}", marker=MARKERS[number], ms=4, label=name)
        panels[0].fill_between(means.index, mean - half, mean + half, color=f"C{number}", alpha=0.2, lw=0)
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
        right = (of_method["true"] == of_method["chosen"]).mean()
        panel.set_title(f"{method}\n{100 * right:.0f} % correct", fontsize="medium")
        panel.set(xlabel="clusters chosen", ylabel="classes in the super-class")
        panel.tick_params(axis="y", rotation=0)
        words.append(f"{method}: correct in {100 * right:.0f} %")
    figure.suptitle(title)
    return described(panels[0], f"{title}. {'; '.join(words)} of {len(of_method)} super-classes.")
