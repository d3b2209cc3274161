"""The factorial: differences between runs that differ in one factor, and what they decide."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nclib.chapters import conclusions, factorial
from nclib.chapters.figures import alt_text
from nclib.chapters.long_runs import FACTORIAL, planned_runs

LEVELS = (("crop-flip", "none"), ("constant", "one-cycle", "step"), (0.0, 5e-4, 5e-3))
EPOCHS = (0, 1, 2, 4)


def table(explained, accuracy=lambda *_: (0.2, 0.5, 0.7, 0.9), seeds=(0,)) -> pd.DataFrame:
    """As of ``factorial.courses``; both functions give a value for each epoch of a setting and seed."""
    rows = []
    for key in product(*LEVELS, seeds):
        values = zip(EPOCHS, accuracy(*key), explained(*key), strict=True)
        for epoch, right, share in values:
            row = dict(zip((*factorial.FACTORS, "seed"), key, strict=True))
            row |= {"epoch": epoch, "accuracy": right, "explained_variance": share}
            rows.append(row | {"kmeans": 0.5 + share / 2, "n": 60 if epoch == 4 else 10})
    return pd.DataFrame(rows).set_index([*factorial.FACTORS, "seed"]).sort_index()


def ending(value) -> list[float]:
    return [0.1, 0.6, 0.6, value]


def verdicts(courses: pd.DataFrame) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in conclusions.show(*factorial.statements(courses)).rows:
        found.setdefault(row["statement"], []).append(row["verdict"])
    return found


def test_contrasts_are_of_the_factorial_that_is_planned():
    configs = [c for c, name in planned_runs().items() if name.startswith(FACTORIAL)]
    assert len(configs) == len(set(configs)) == 2 * 3 * 3 * 2
    for place, (factor, field) in enumerate(
        zip(factorial.FACTORS, ("augment", "schedule", "weight_decay"), strict=True)
    ):
        levels = {getattr(config, field) for config in configs}
        named = {level for of, *pair in factorial.CONTRASTS if of == factor for level in pair}
        assert named == levels == set(LEVELS[place])


def test_pairs_differ_in_one_factor():
    rng = np.random.default_rng(0)
    ends = {key: rng.random() for key in product(*LEVELS, (0, 1))}
    courses = table(lambda *key: ending(ends[key]), seeds=(0, 1))
    for factor, level, against in factorial.CONTRASTS:
        found = factorial.pairs(courses, factor, level, against)
        place = factorial.FACTORS.index(factor)
        assert len(found) == 36 / len(LEVELS[place])
        for others, row in found.iterrows():
            one, other = ((*others[:place], value, *others[place:]) for value in (level, against))
            assert row["explained_variance"] == pytest.approx(ends[one] - ends[other], abs=1e-15)
            assert row["kmeans"] == pytest.approx((ends[one] - ends[other]) / 2, abs=1e-15)


def test_equal_accuracy_is_that_of_the_run_that_ends_with_fewer_images_fitted():
    """The one with augmentation ends at 0.8, which the other passes between epochs 2 and 4."""
    right = {"none": (0.2, 0.5, 0.7, 0.9), "crop-flip": (0.2, 0.3, 0.4, 0.8)}
    shares = {"none": (0.1, 0.6, 0.5, 0.1), "crop-flip": (0.1, 0.6, 0.6, 0.4)}
    courses = table(lambda a, *_: shares[a], lambda a, *_: right[a])
    for level, against, sign in (("none", "crop-flip", 1), ("crop-flip", "none", -1)):
        found = factorial.pairs(courses, "augmentation", level, against)
        bounds = sorted([sign * (0.1 - 0.4), sign * (0.5 - 0.4)])
        np.testing.assert_allclose(found[["least", "most"]], [bounds] * 9, rtol=1e-12)
        assert (found["epoch"] == 4).all()
        np.testing.assert_allclose(found["explained_variance"], sign * (0.1 - 0.4), rtol=1e-12)


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [(0.9, (5, 0.1, 0.4)), (0.7, (5, 0.1, 0.4)), (0.6, (2, 0.5, 0.7)), (0.55, None), (0.1, None)],
)
def test_accuracy_is_passed_between_two_measured_epochs(accuracy, expected):
    """Accuracy falls again after epoch 2; what comes before the second measured epoch is not asked."""
    course = pd.DataFrame(
        {
            "epoch": [0, 1, 2, 3, 5, 6],
            "accuracy": [0.2, 0.55, 0.6, 0.5, 0.9, 0.8],
            "explained_variance": [0.1, 0.7, 0.5, 0.4, 0.1, 0.2],
        }
    )
    fewer = pd.DataFrame({"epoch": [0, 7], "accuracy": [0.2, accuracy], "explained_variance": [0.1, 0.3]})
    found = factorial.passing(course, fewer)
    assert np.isnan(found).all() if expected is None else found == expected


def test_schedules_that_begin_alike_are_one_network_at_first():
    """Both pass 0.6 at epoch 2 with one value; there is nothing to compare before their courses part."""
    right = {
        "constant": (0.2, 0.5, 0.7, 0.6),
        "step": (0.2, 0.5, 0.7, 0.9),
        "one-cycle": (0.2, 0.4, 0.65, 0.9),
    }
    shares = {
        "constant": (0.1, 0.5, 0.4, 0.3),
        "step": (0.1, 0.5, 0.4, 0.1),
        "one-cycle": (0.1, 0.5, 0.45, 0.1),
    }
    courses = table(lambda _a, s, *_: shares[s], lambda _a, s, *_: right[s])
    alike, other = (
        factorial.pairs(courses, "schedule", level, "constant") for level in ("step", "one-cycle")
    )
    assert alike[["least", "most", "epoch"]].isna().all(axis=None)
    np.testing.assert_allclose(other[["least", "most"]], [[0.45 - 0.3, 0.5 - 0.3]] * 6, rtol=1e-12)
    row = factorial.effects_table(courses).loc["schedule: step against constant"]
    assert row["explained variance at equal accuracy, between"] == "-" and row["settings there"] == "0"


def drawn(seed: int, seeds=(0, 1)) -> tuple[dict, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    ends = {key: rng.random() for key in product(*LEVELS, seeds)}
    return ends, table(lambda *key: ending(ends[key]), seeds=seeds)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_effects_are_those_of_a_linear_model(seeds):
    """Means, and intervals from the residuals of a model with all pairs of factors, by least squares."""
    ends, courses = drawn(1, seeds)
    keys = list(product(*LEVELS, seeds))
    y = np.array([ends[key] for key in keys])
    columns = [np.ones(len(keys))]
    for factors in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2)):
        for levels in product(*(LEVELS[f] for f in factors)):
            columns.append(
                np.array([all(key[f] == v for f, v in zip(factors, levels, strict=True)) for key in keys])
            )
    x = np.stack(columns, axis=1).astype(float)
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    freedom = len(y) - np.linalg.matrix_rank(x)
    table_of_effects = factorial.effects_table(courses)
    for factor, level, against in factorial.CONTRASTS:
        place = factorial.FACTORS.index(factor)
        one, other = (y[[key[place] == value for key in keys]] for value in (level, against))
        gaps = (one - other).reshape(-1, len(seeds)).mean(axis=1)
        error = np.sqrt(np.square(residual).sum() / freedom * (1 / len(one) + 1 / len(other)))
        half = stats.t.interval(0.95, freedom, scale=error)[1]
        row = table_of_effects.loc[f"{factor}: {level} against {against}"]
        expected = f"{gaps.mean():+.3f} ± {half:.2g} ({gaps.min():+.3f} to {gaps.max():+.3f})"
        assert row["explained variance"] == expected
        assert row["settings"] == str(len(gaps)) and row["seeds"] == str(len(seeds))


def test_analysis_of_variance_is_that_of_projections():
    """Against projections on indicator columns, factor by factor and pair by pair; the design is balanced."""
    values = np.random.default_rng(2).normal(size=(2, 3, 3, 4))
    found = factorial.analysis_of_variance(values)
    places = np.indices(values.shape).reshape(4, -1)
    y = values.ravel() - values.mean()

    def explained(columns: list[np.ndarray]) -> tuple[float, int]:
        x = np.stack([np.ones_like(y), *columns], axis=1)
        return float(np.square(x @ np.linalg.lstsq(x, y, rcond=None)[0]).sum()), np.linalg.matrix_rank(x) - 1

    mains = [[(places[a] == i) * 1.0 for i in range(values.shape[a])] for a in range(3)]
    for a, factor in enumerate(factorial.FACTORS):
        np.testing.assert_allclose(found.loc[factor], explained(mains[a]), rtol=1e-10)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        both = explained([one * other for one in mains[a] for other in mains[b]])
        alone = (explained(mains[a]), explained(mains[b]))
        expected = [whole - sum(parts) for whole, *parts in zip(both, *alone, strict=True)]
        np.testing.assert_allclose(
            found.loc[f"{factorial.FACTORS[a]} and {factorial.FACTORS[b]}"], expected, rtol=1e-8
        )
    np.testing.assert_allclose(found.sum(), [np.square(y).sum(), len(y) - 1], rtol=1e-12)


def test_shares_of_noise_are_those_by_chance():
    """Mean over 200 factorials of noise, each share within four standard errors of its degrees of freedom."""
    rng = np.random.default_rng(3)
    found = [factorial.analysis_of_variance(rng.normal(size=(2, 3, 3, 1))) for _ in range(200)]
    shares = np.array([table["squares"] / table["squares"].sum() for table in found])
    by_chance = (found[0]["freedom"] / found[0]["freedom"].sum()).to_numpy()
    error = shares.std(axis=0, ddof=1) / np.sqrt(len(shares))
    assert (abs(shares.mean(axis=0) - by_chance) < 4 * error).all()


def test_one_factor_that_decides_has_all_of_the_differences():
    courses = table(lambda _a, _s, decay, _seed: ending(0.3 + 20 * decay), seeds=(0, 1))
    shares = factorial.shares_table(courses)
    assert shares.loc["weight decay", "explained variance"] == "100%"
    assert set(shares["explained variance"].drop("weight decay")) == {"0%"}
    assert shares.loc["weight decay", "by chance"] == "6%"  # 2 of 35


def test_shares_and_intervals_need_every_setting():
    courses = drawn(4, (0,))[1].query("augmentation != 'none' or schedule != 'step'")
    assert factorial.shares_table(courses).empty
    effects = factorial.effects_table(courses)
    assert len(effects) == len(factorial.CONTRASTS)
    assert effects.loc["schedule: step against constant", "settings"] == "3"
    assert not effects["explained variance"].str.contains("±").any()


def test_statements_change_with_the_runs():
    nothing = verdicts(table(lambda *_: ending(0.3)))
    assert {v for of in nothing.values() for v in of} == {"not observed"}
    lost = verdicts(table(lambda augmentation, *_: ending(0.1 if augmentation == "none" else 0.5)))
    assert next(iter(lost.values())) == ["observed"]
    fallen = verdicts(table(lambda _a, schedule, *_: ending(0.1 if schedule == "step" else 0.5)))
    (of_schedule,) = (of for text, of in fallen.items() if text.startswith("Where the learning rate falls"))
    assert of_schedule == ["observed", "not observed"]  # steps do, one-cycle does not
    decayed = verdicts(table(lambda _a, _s, decay, _seed: ending(0.1 if decay > 1e-3 else 0.5)))
    (of_decay,) = (of for text, of in decayed.items() if text.startswith("Another weight decay"))
    assert of_decay == ["observed", "not observed"]


def test_every_setting_counts_once_whatever_its_seeds():
    """A second seed of the runs without weight decay only; the interval is that of the weights."""
    rng = np.random.default_rng(0)
    ends = {key: rng.random() for key in product(*LEVELS, (0, 1))}
    courses = table(lambda *key: ending(ends[key]), seeds=(0, 1))
    courses = courses.drop([key for key in courses.index if key[-1] == 1 and key[2] != 0])
    of_setting, squares = [], 0.0
    for schedule, decay in product(*LEVELS[1:]):
        seeds = (0, 1) if decay == 0 else (0,)
        pair = [
            ends["none", schedule, decay, seed] - ends["crop-flip", schedule, decay, seed] for seed in seeds
        ]
        of_setting.append(np.mean(pair))
        squares += 2 / len(seeds) / 9**2
    shown = factorial.effects_table(courses).iloc[0]["explained variance"]
    mean, half = (float(part.split(" ")[0]) for part in shown.split(" ± "))
    rest = factorial.analysis_of_variance(factorial._complete(courses, "explained_variance")).loc["rest"]
    error = np.sqrt(rest["squares"] / rest["freedom"] * squares)
    assert mean == pytest.approx(np.mean(of_setting), abs=5e-4)  # three decimals
    assert half == pytest.approx(stats.t.ppf(0.975, rest["freedom"]) * error, rel=0.05)  # two digits
    (case,) = factorial._lost(courses, "augmentation")
    unseen = factorial.pairs(courses, "augmentation", "none", "crop-flip")
    keep = [key for key in unseen.index if not all((a, *key) in factorial.SEEN for a in LEVELS[0])]
    expected = -unseen.loc[keep, "explained_variance"].groupby(level=[0, 1]).mean().mean()
    assert (case.low + case.high) / 2 == pytest.approx(expected)


@pytest.mark.parametrize(("lost", "verdict"), [(0.1, "not observed"), (0.35, "undecided"), (0.6, "observed")])
def test_at_equal_accuracy_both_bounds_have_to_agree(lost, verdict):
    """Without augmentation 0.7 is passed between epochs 2 and 4, at shares of 0.4 and 0.2."""
    right = {"none": (0.2, 0.5, 0.6, 0.9), "crop-flip": (0.2, 0.4, 0.6, 0.7)}
    shares = {"none": (0.1, 0.6, 0.4, 0.2), "crop-flip": (0.1, 0.6, 0.55, lost)}
    found = verdicts(table(lambda a, *_: shares[a], lambda a, *_: right[a]))
    (equal,) = (of for text, of in found.items() if "without augmentation, by" in text)
    assert equal == [verdict]


def test_pairs_that_suggested_a_statement_do_not_decide_it():
    courses = table(lambda augmentation, *_: ending(0.1 if augmentation == "none" else 0.5))
    seen = courses.query("schedule == 'step' and `weight decay` == 0.0005")
    assert not any(text.startswith("Without augmentation") for text in verdicts(seen))
    assert len(factorial.pairs(seen, "augmentation", "none", "crop-flip")) == 1
    other = seen.rename(index={0: 1}, level="seed")
    assert next(iter(verdicts(other).values())) == ["observed"]


@pytest.mark.parametrize(("slope", "verdict"), [(-1, "holds"), (1, "does not hold")])
def test_whether_what_is_fitted_goes_with_what_is_lost(slope, verdict):
    settings = {others: 0.9 + number / 100 for number, others in enumerate(product(*LEVELS[1:]))}
    courses = table(
        lambda _a, *others: ending(0.5 + slope * settings[others[:2]] / 2),
        lambda _a, *others: (0.2, 0.5, 0.7, settings[others[:2]]),
    )
    (found,) = (of for text, of in verdicts(courses).items() if text.startswith("The more training images"))
    assert found == [verdict] * 2


def test_an_order_that_is_not_there_is_undecided_nearly_always():
    """Of 100 factorials of noise, of two cases each, at most as many as 5 % allow with probability 0.999."""
    rng = np.random.default_rng(5)
    courses = table(lambda *_: ending(0.3)).query("epoch == 4")
    decided = 0
    for _ in range(100):
        noise = dict(zip(("accuracy", "explained_variance"), rng.random((2, len(courses))), strict=True))
        for case in factorial._fitted(courses.assign(**noise)):
            assert case.n == 9
            decided += case.p < 0.05
    assert decided <= stats.binom.ppf(0.999, 200, 0.05)


def test_of_one_seed_all_is_observed_and_of_three_it_is_tested():
    courses = table(
        lambda a, _s, _d, seed: ending((0.1 if a == "none" else 0.5) + seed / 100 * (a == "none")),
        seeds=(0, 1, 2),
    )
    assert next(iter(verdicts(courses).values())) == ["holds"]
    assert next(iter(verdicts(courses.query("seed == 0")).values())) == ["observed"]


def test_figure_draws_every_run_twice():
    axes = factorial.courses_figure(table(lambda *_: ending(0.3)), "A title")
    lines = [line for panel in axes.figure.axes for line in panel.lines if len(line.get_xdata()) > 1]
    assert len(lines) == 2 * 18 and all(len(line.get_xdata()) == len(EPOCHS) for line in lines)
    assert [panel.get_title() for panel in axes.figure.axes[:3]] == list(LEVELS[1])
    assert "augmentation none, step: 0.30 to 0.30" in alt_text(axes)
