"""Chapter 12: hidden sub-classes in your own model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from torch import Tensor, nn

from nclib.chapters.benchmarks import benchmark
from nclib.chapters.conclusions import CLOSE, Case, Count, Statement
from nclib.chapters.figures import INK, MARKERS, SHADE, described, stacked_panels, theme
from nclib.chapters.statistics import SHARE, over_seeds, with_interval
from nclib.measures.subpopulations import Subpopulations, subpopulations
from nclib.measures.valley import Valley
from nclib.networks.features import extract

LEVEL = 0.05
FIRST_LOOK = 5  # seeds below were looked at before it was decided to run ten more
AGREES = 0.5  # adjusted Rand index; our choice. Of two equal groups 85 % are then in the right one
RARE = 0.15  # of a label's training images are of the rare group
STEPS = 560  # of training: forty epochs of 899 digits
EARLY = 56  # of them, after which the features are tested; chosen on seed 0 of the negatives
PLAIN, LONGER = "plain", "plain, twice as long"
REWEIGHTED, ORACLE = "populations equally often", "true groups equally often"


def agreement(found: Subpopulations, label: ArrayLike, fine: ArrayLike) -> np.ndarray:
    """Adjusted Rand index, inside every label, of the sub-populations found with the fine classes.

    Parameters
    ----------
    found : of the features of N samples.
    label : (N,) labels that the network was trained on, in [0, G).
    fine : (N,) fine classes.

    Returns
    -------
    (G,) float64; not a number where there is one fine class and one population, and nothing to compare.
    """
    label, fine = np.asarray(label), np.asarray(fine)
    values = []
    for g, count in enumerate(found.count):
        at = label == g
        alone = count == 1 and len(np.unique(fine[at])) == 1
        values.append(np.nan if alone else adjusted_rand_score(fine[at], found.labels[at]))
    return np.array(values)


def hidden(label: ArrayLike, fine: ArrayLike) -> np.ndarray:
    """Number of fine classes in every label. (N,), (N,) -> (G,) int64."""
    pairs = np.unique(np.stack([np.asarray(label), np.asarray(fine)]), axis=1)
    return np.bincount(pairs[0])


def found_table(
    found: Subpopulations, label: ArrayLike, fine: ArrayLike, names: Sequence[str]
) -> pd.DataFrame:
    """What the test says of every label, beside the truth that the network never saw."""
    label, fine = np.asarray(label), np.asarray(fine)
    rows = []
    for g, index in enumerate(agreement(found, label, fine)):
        inside = np.unique(fine[label == g])
        sizes = np.bincount(found.labels[label == g])
        row = {"label": g, "samples": f"{sizes.sum():,}", "p": f"{found.p[g]:.2g}"}
        row |= {"populations found": found.count[g], "their sizes": ", ".join(map(str, sizes))}
        row |= {"truth": " and ".join(names[c] for c in inside)}
        rows.append(row | {"adjusted Rand index": "-" if np.isnan(index) else f"{index:.2f}"})
    return pd.DataFrame(rows).set_index("label")


@theme()
def populations_figure(
    h: ArrayLike, label: ArrayLike, fine: ArrayLike, names: Sequence[str], found: Subpopulations
) -> Axes:
    """Features of every label on their first two principal components, with what the test found.

    Parameters
    ----------
    h : (N, D) features.
    label, fine : (N,) labels of training, and fine classes, which are the colours.
    names : of the fine classes.
    """
    h, label, fine = np.asarray(h), np.asarray(label), np.asarray(fine)
    figure, stacks = stacked_panels(len(found.count), 4, (2.2, 2.5))
    words = []
    for g, (panel,) in enumerate(stacks):
        points = PCA(2, random_state=0).fit_transform(h[label == g])
        for number, c in enumerate(np.unique(fine[label == g])):
            at = fine[label == g] == c
            style = {"color": f"C{number}", "marker": MARKERS[number % len(MARKERS)], "s": 10, "lw": 0}
            panel.scatter(*points[at].T, label=names[c], alpha=0.9, **style)
        panel.set(xticks=[], yticks=[])
        count = found.count[g]
        panel.set_title(f"label {g}: {count if count > 1 else 'one'} found", fontsize="medium")
        panel.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2)
        words.append(f"label {g}: {count}")
    title = "Features of each label, and how many populations the test finds"
    figure.suptitle(title)
    return described(stacks[0, 0], f"{title}. {'; '.join(words)}. Colours are fine classes.")


@theme()
def trap_figure(halves: Mapping[str, np.ndarray], valley: Valley) -> Axes:
    """Samples of one Gaussian along a line that one of two halves chose.

    Parameters
    ----------
    halves : (n,) coordinates along the line, by the name of the half.
    valley : of the half that chose.
    """
    figure, stacks = stacked_panels(len(halves), len(halves), (4.2, 2.8))
    edges = np.histogram_bin_edges(np.concatenate(list(halves.values())), 24)
    widths = valley.width, valley.middle_width, valley.width
    words = []
    for number, ((name, x), (panel,)) in enumerate(zip(halves.items(), stacks, strict=True)):
        for left, width in zip(valley[:3], widths, strict=True):
            panel.axvspan(left, left + width, color=SHADE, lw=0)
        panel.hist(x, edges, color=f"C{number}")
        counts = ", ".join(map(str, valley.counts(x)))
        panel.set(title=f"{name}: {counts} samples", xlabel="along the line", yticks=[])
        words.append(f"{name}: {counts} samples in the three windows")
    figure.suptitle("One Gaussian, along a line that one half of it chose")
    return described(stacks[0, 0], f"Histograms of one Gaussian along a line. {'; '.join(words)}.")


def look(found: Subpopulations, label: ArrayLike, fine: ArrayLike, seed: int) -> pd.DataFrame:
    """A row for each label: "seed", "label", "hides" fine classes, "found" populations, "ari"."""
    columns = {"hides": hidden(label, fine), "found": found.count, "ari": agreement(found, label, fine)}
    return pd.DataFrame({"seed": seed, "label": range(len(found.count)), **columns})


def looks_table(looks: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """In how many networks each label is split, in how many of these correctly, and how well."""
    rows = []
    for (label, hides), of in pd.concat(looks).groupby(["label", "hides"]):
        split = of[of["found"] > 1]
        row = {"label": label, "fine classes": hides, "networks": len(of), "split": len(split)}
        row["correct number"] = int((of["found"] == hides).sum())
        row["off by one"] = int(((of["found"] - hides).abs() == 1).sum())
        row["adjusted Rand index where split"] = over_seeds(split["ari"], "{:.2f}") if len(split) else "-"
        rows.append(row)
    return pd.DataFrame(rows).set_index("label")


def negative(x: Tensor) -> Tensor:
    """Images (N, C, H, W) from 0 to 1 as photographic negatives."""
    return 1 - x


def stripe(x: Tensor) -> Tensor:
    """Images (N, C, H, W) with a bright stripe along the upper edge, a quarter of their height."""
    x = x.clone()
    x[:, :, : x.shape[2] // 4] = 1
    return x


MARKS = {"negative": negative, "stripe": stripe}


class Planted(NamedTuple):
    """Even against odd digits, and a mark that nearly goes with the label in training.

    Attributes
    ----------
    x, y : (N, C, H, W) images and (N,) labels of training, 0 for even.
    marked : (N,) bool, of training: rare among the odd, and missing rarely among the even.
    tested : held-out images (n, C, H, W), every one without the mark and with it.
    tested_y : their labels (n,).
    """

    x: Tensor
    y: Tensor
    marked: Tensor
    tested: tuple[Tensor, Tensor]
    tested_y: Tensor


def planted(images: Tensor, fine: Tensor, mark: str, seed: int) -> Planted:
    """Mark most even and few odd images of one half; keep the other half for testing.

    Parameters
    ----------
    images : (N, C, H, W) from 0 to 1.
    fine : (N,) their classes.
    mark : a name in ``MARKS``.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    used, held = order[: len(order) // 2], order[len(order) // 2 :]
    y = fine % 2
    share = torch.where(y == 0, 1 - RARE, RARE)
    marked = torch.rand(len(images), generator=generator) < share
    x = torch.where(marked[:, None, None, None], MARKS[mark](images), images)
    return Planted(x[used], y[used], marked[used], (images[held], MARKS[mark](images[held])), y[held])


def fit(x: Tensor, y: Tensor, seed: int, steps: int, weights: Tensor | None = None) -> nn.Module:
    """Train a perceptron with two hidden layers by SGD.

    Parameters
    ----------
    x, y : (N, C, H, W) images, (N,) labels in [0, K).
    steps : batches of 64 samples, drawn with replacement.
    weights : (N,) in proportion to which samples are drawn; all alike by default.
    """
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(x[0].numel(), 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(),
        nn.Linear(64, int(y.max()) + 1),
    )  # fmt: skip
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    weights = torch.ones(len(x)) if weights is None else weights
    for _ in range(steps):
        rows = torch.multinomial(weights, 64, replacement=True)
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


def groups(y: Tensor, population: Tensor) -> Tensor:
    """A number for every pair of a label and a population of it. (N,), (N,) -> (N,)."""
    return torch.unique(torch.stack([y, population]), dim=1, return_inverse=True)[1]


def balanced(group: Tensor) -> Tensor:
    """Weights (N,) with which every group is drawn equally often."""
    return 1 / torch.bincount(group)[group].double()


def accuracies(model: nn.Module, task: Planted, label_of: Tensor) -> list[float]:
    """Test accuracy of the four groups, (label, mark): without and with the mark, of label 0 and of label 1.

    ``label_of`` (K,) is the label of each output; the probabilities of one label are added.
    """
    found = []
    for y in (0, 1):
        for images in task.tested:
            with torch.no_grad():
                p = model(images[task.tested_y == y]).softmax(dim=1)  # (n, K)
            of_label = torch.stack([p[:, label_of == c].sum(dim=1) for c in (0, 1)], dim=1)
            found.append((of_label.argmax(dim=1) == y).double().mean().item())
    return found


def act(images: Tensor, fine: Tensor, mark: str, seed: int) -> list[dict[str, Any]]:
    """Train on marked images, look for populations early on, train with what was found, and without.

    Returns
    -------
    A row for each way: "mark", "seed", "how", the "worst" of the four groups' test accuracies and their
    "mean"; "found", populations of both labels early on, their "p" and "ari" with the mark; "found late",
    the same at the end; "n" test images, "n train" those of training.
    """
    task = planted(images, fine, mark, seed)
    x, y, marks = task.x, task.y, task.marked.long()
    plain = fit(x, y, seed, STEPS)
    early = fit(x, y, seed, EARLY)  # the same network, sooner
    found, late = (subpopulations(extract(net, [(x, y)]).h, y, seed=seed) for net in (early, plain))
    ours, true = groups(y, torch.tensor(found.labels)), groups(y, marks)
    both = torch.arange(2)
    label_of = torch.stack([y[ours == k][0] for k in range(int(ours.max()) + 1)])
    ways = {
        PLAIN: (plain, both),
        LONGER: (fit(x, y, seed, 2 * STEPS), both),
        REWEIGHTED: (fit(x, y, seed, STEPS, balanced(ours)), both),
        "trained on populations, merged": (fit(x, ours, seed, STEPS), label_of),
        ORACLE: (fit(x, y, seed, STEPS, balanced(true)), both),
    }
    shared = {"mark": mark, "seed": seed, "found": found.count.tolist(), "p": found.p.tolist()}
    shared |= {"found late": late.count.tolist(), "p late": late.p.tolist()}
    shared |= {"ari": agreement(found, y, marks).tolist()}
    shared |= {"n": 2 * len(task.tested_y), "n train": len(y)}
    rows = []
    for how, (model, of) in ways.items():
        each = accuracies(model, task, of)
        rows.append(shared | {"how": how, "worst": min(each), "mean": float(np.mean(each))})
    return rows


def acted() -> pd.DataFrame:
    """What ``benchmarks/act_on_it.py`` wrote: rows of ``act`` for several seeds."""
    return pd.DataFrame(benchmark("act_on_it")["rows"])


def acted_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Worst and mean group accuracy of every way; means over seeds with their 95 % intervals."""
    cells = rows.groupby(["mark", "how"], sort=False)[["worst", "mean"]].agg(with_interval, SHARE)
    return cells.rename(columns={"worst": "worst group", "mean": "mean of the four"})


def split_shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of the two labels that the test splits, by mark and seed: "early", and at the "end"."""
    each = rows.drop_duplicates(["mark", "seed"]).set_index(["mark", "seed"])
    stages = {"early": each["found"], "end": each["found late"]}
    return pd.DataFrame({name: of.map(lambda n: np.mean(np.array(n) > 1)) for name, of in stages.items()})


def split_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The same, means over seeds, and the adjusted Rand index of the early populations with the mark.

    A row for the seeds that were looked at first, and one for those that decide.
    """
    shares = split_shares(rows)
    looked = np.where(shares.index.get_level_values("seed") < FIRST_LOOK, "first look", "deciding")
    by = [shares.index.get_level_values("mark"), pd.Index(looked, name="seeds")]
    ari = rows.drop_duplicates(["mark", "seed"]).set_index(["mark", "seed"])["ari"].map(np.mean)
    table = shares.groupby(by, sort=False).agg(lambda of: f"{100 * of.mean():.0f} %")
    table = table.rename(columns=lambda stage: f"labels split, {stage}")
    return table.assign(
        **{"adjusted Rand index, early": ari.groupby(by, sort=False).mean().map("{:.2f}".format)}
    )


@theme()
def acted_figure(rows: pd.DataFrame) -> Axes:
    """Accuracy of the worst group by way of training, a panel for each mark, a dot for each seed."""
    marks, ways = list(rows["mark"].unique()), list(rows["how"].unique())
    low = min(0.5, rows["worst"].min())
    figure, stacks = stacked_panels(len(marks), len(marks), (4.4, 2.8))
    words = []
    for mark, (panel,) in zip(marks, stacks, strict=True):
        for place, how in enumerate(ways):
            worst = rows.loc[(rows["mark"] == mark) & (rows["how"] == how), "worst"]
            panel.plot(worst, [place] * len(worst), "o", color="C0", ms=4, alpha=0.8)
            panel.plot(worst.mean(), place, "|", color=INK, ms=16, mew=2)
            words.append(f"{mark}, {how}: {worst.mean():.2f}")
        panel.set(xlim=(low - 0.03, 1.03), xlabel="accuracy of the worst group", title=mark)
        panel.set_yticks(range(len(ways)), ways if mark == marks[0] else [""] * len(ways))
        panel.invert_yaxis()
    figure.suptitle("The worst of four groups, by training")
    return described(stacks[0, 0], f"Mean accuracy of the worst group. {'; '.join(words)}.")


def statements(
    looks: Sequence[pd.DataFrame],
    alarms: Mapping[str, Sequence[bool]],
    rows: pd.DataFrame,
    n: int,
    n_gaussian: int,
) -> list[Statement]:
    """What this chapter's runs decide.

    Parameters
    ----------
    looks : of ``look``, one for each network.
    alarms : whether each Gaussian raised an alarm, on "the same half" and on "the other half".
    rows : of ``act``; the seeds that were looked at before more were run decide nothing.
    n : held-out images of each network.
    n_gaussian : samples of each half of a Gaussian.
    """
    every = pd.concat(looks).assign(several=lambda table: table["hides"] > 1)
    split = (every["found"] > 1).groupby([every["seed"], every["several"]]).mean().unstack()
    ari = every[every["several"] & (every["found"] > 1)].groupby("seed")["ari"].mean()
    rows = rows[rows["seed"] >= FIRST_LOOK]
    shares = split_shares(rows)
    sooner, n_train = shares["early"] - shares["end"], rows["n train"].iloc[0]
    worst = rows.pivot(index=["mark", "seed"], columns="how", values="worst")

    def gaussian(half: str, raised: bool) -> list[Count]:
        hits = sum(alarm == raised for alarm in alarms[half])
        return [Count(f"one Gaussian, {half}", hits, len(alarms[half]), n_gaussian)]

    def gain(over: str) -> list[Case]:
        difference = worst[REWEIGHTED] - worst[over]
        return [Case(mark, of.tolist(), rows["n"].iloc[0]) for mark, of in difference.groupby("mark")]

    made = [
        Statement(
            "A test on the samples that chose the clusters raises false alarms",
            "share of draws with a false alarm",
            gaussian("the same half", True),
            LEVEL,
        ),
        Statement(
            "A test on the other half keeps its level",
            "share of draws without a false alarm",
            gaussian("the other half", False),
            1 - LEVEL,
        ),
        Statement(
            "Labels that hide two classes are split more often than labels that hide one",
            "share of labels split, those with two classes minus those with one",
            [Case("this page", (split[True] - split[False]).tolist(), n)],
        ),
    ]
    if len(ari):
        made.append(
            Statement(
                f"Where a label is split, the populations agree with its classes better than {AGREES:g}",
                "adjusted Rand index, mean over split labels",
                [Case("this page", ari.tolist(), n)],
                AGREES,
            )
        )
    return [
        *made,
        Statement(
            "More labels are split early in training than at its end",
            "share of labels split early, minus that at the end",
            [Case(mark, of.tolist(), n_train) for mark, of in sooner.groupby("mark")],
        ),
        Statement(
            "Drawing the populations found equally often raises the accuracy of the worst group",
            "accuracy of the worst group, minus that of plain training",
            gain(PLAIN),
        ),
        Statement(
            "It does so more than training for twice as long",
            "accuracy of the worst group, minus that of plain training for twice as long",
            gain(LONGER),
        ),
        Statement(
            "With the populations found drawn equally often, the worst group's accuracy is less than"
            f" {CLOSE:g} below that with the true groups",
            "accuracy of the worst group, minus that with the true groups",
            gain(ORACLE),
            -CLOSE,
        ),
    ]
