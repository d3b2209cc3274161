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


def test_equal_accuracy_is_the_highest_that_both_reach():
    """Without augmentation 0.8 is passed half-way from epoch 2 to 4, with it reached at the end."""
    right = {"none": (0.2, 0.5, 0.7, 0.9), "crop-flip": (0.2, 0.3, 0.4, 0.8)}
    shares = {"none": (0.1, 0.6, 0.5, 0.1), "crop-flip": (0.1, 0.6, 0.6, 0.4)}
    courses = table(lambda a, *_: shares[a], lambda a, *_: right[a])
    found = factorial.pairs(courses, "augmentation", "none", "crop-flip")
    np.testing.assert_allclose(found["at equal accuracy"], 0.3 - 0.4, rtol=1e-12)
    np.testing.assert_allclose(found["epoch"], 3, rtol=1e-12)
    assert (found["epoch against"] == 4).all()
    np.testing.assert_allclose(found["explained_variance"], 0.1 - 0.4, rtol=1e-12)


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [(0.9, (5, 0.1)), (0.7, (4, 0.25)), (0.6, (2, 0.5)), (0.55, (np.nan, np.nan)), (0.1, (np.nan, np.nan))],
)
def test_accuracy_is_first_reached(accuracy, expected):
    """Accuracy falls again after epoch 2; what comes before the second measured epoch is not asked."""
    course = pd.DataFrame(
        {
            "epoch": [0, 1, 2, 3, 5, 6],
            "accuracy": [0.2, 0.55, 0.6, 0.5, 0.9, 0.8],
            "explained_variance": [0.1, 0.7, 0.5, 0.4, 0.1, 0.2],
        }
    )
    np.testing.assert_allclose(factorial.reached(course, accuracy), expected, rtol=1e-12)


def test_effects_have_students_interval_over_settings():
    rng = np.random.default_rng(1)
    ends = {key: rng.random() for key in product(*LEVELS, (0, 1))}
    courses = table(lambda *key: ending(ends[key]), seeds=(0, 1))
    row = factorial.effects_table(courses).loc["augmentation: none against crop-flip"]
    gaps = [
        np.mean([ends["none", *others, seed] - ends["crop-flip", *others, seed] for seed in (0, 1)])
        for others in product(*LEVELS[1:])
    ]
    half = stats.t.interval(0.95, 8, scale=stats.sem(gaps))[1]
    assert row["explained variance"] == f"{np.mean(gaps):+.3f} ± {half:.1g}"
    assert row["settings"] == "9" and row["seeds"] == "2"


def test_shares_are_those_of_an_analysis_of_variance():
    """Against projections on indicator columns, factor by factor and pair by pair; the design is balanced."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=(2, 3, 3, 4))
    shares = factorial._shares(values)
    places = np.indices(values.shape).reshape(4, -1)
    y = values.ravel() - values.mean()

    def explained(columns: list[np.ndarray]) -> float:
        x = np.stack([np.ones_like(y), *columns], axis=1)
        return float(np.square(x @ np.linalg.lstsq(x, y, rcond=None)[0]).sum() / np.square(y).sum())

    mains = [[(places[a] == i) * 1.0 for i in range(values.shape[a])] for a in range(3)]
    for a, factor in enumerate(factorial.FACTORS):
        assert shares[factor] == pytest.approx(explained(mains[a]), rel=1e-10)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        both = [one * other for one in mains[a] for other in mains[b]]
        name = f"{factorial.FACTORS[a]} and {factorial.FACTORS[b]} together"
        expected = explained(both) - explained(mains[a]) - explained(mains[b])
        assert shares[name] == pytest.approx(expected, rel=1e-8)
    assert sum(shares.values()) == pytest.approx(1, rel=1e-12)


def test_one_factor_that_decides_has_all_of_the_differences():
    courses = table(lambda _a, _s, decay, _seed: ending(0.3 + 20 * decay), seeds=(0, 1))
    shares = factorial.shares_table(courses)["explained variance"]
    assert shares["weight decay"] == "100%" and set(shares.drop("weight decay")) == {"0%"}


def test_shares_need_every_setting():
    courses = table(lambda *_: ending(0.3))
    courses = courses.query("augmentation != 'none' or schedule != 'step'")
    assert factorial.shares_table(courses).empty
    assert len(factorial.effects_table(courses)) == len(factorial.CONTRASTS)
    assert factorial.effects_table(courses).loc["schedule: step against constant", "settings"] == "3"


def test_statements_change_with_the_runs():
    nothing = verdicts(table(lambda *_: ending(0.3)))
    assert {v for of in nothing.values() for v in of} == {"not observed"}
    assert len(nothing) == 5  # no order of settings that are all equal
    lost = verdicts(table(lambda augmentation, *_: ending(0.1 if augmentation == "none" else 0.5)))
    assert [of[0] for of in lost.values()] == ["observed", "observed", *["not observed"] * 3]
    fallen = verdicts(table(lambda _a, schedule, *_: ending(0.1 if schedule == "step" else 0.5)))
    assert list(fallen.values())[2] == ["observed", "not observed"]  # steps do, one-cycle does not
    decayed = verdicts(table(lambda _a, _s, decay, _seed: ending(0.1 if decay > 1e-3 else 0.5)))
    assert list(decayed.values())[4] == ["observed", "not observed"]


def test_augmentation_at_the_end_and_at_equal_accuracy_are_two_statements():
    """Without augmentation a network fits more; at the accuracy of the other it explains as much."""
    right = {"none": (0.2, 0.5, 0.7, 0.9), "crop-flip": (0.2, 0.4, 0.6, 0.7)}
    shares = {"none": (0.1, 0.6, 0.5, 0.1), "crop-flip": (0.1, 0.6, 0.55, 0.5)}
    at_end, equal, *_ = verdicts(table(lambda a, *_: shares[a], lambda a, *_: right[a])).values()
    assert at_end == ["observed"] and equal == ["not observed"]


@pytest.mark.parametrize(("slope", "verdict"), [(-1, "observed"), (1, "not observed")])
def test_whether_what_is_fitted_goes_with_what_is_lost(slope, verdict):
    fitted = {decay: 0.9 + number / 100 for number, decay in enumerate(LEVELS[2])}
    courses = table(
        lambda _a, _s, decay, _seed: ending(0.5 + slope * fitted[decay] / 2),
        lambda _a, _s, decay, _seed: (0.2, 0.5, 0.7, fitted[decay]),
    )
    (found,) = (of for text, of in verdicts(courses).items() if text.startswith("The more training images"))
    assert found == [verdict] * 2


def test_of_one_seed_all_is_observed_and_of_three_it_is_tested():
    courses = table(
        lambda a, _s, _d, seed: ending((0.1 if a == "none" else 0.5) + seed / 100 * (a == "none")),
        seeds=(0, 1, 2),
    )
    assert next(iter(verdicts(courses).values())) == ["holds"]
    one = courses.query("seed == 0")
    assert next(iter(verdicts(one).values())) == ["observed"]


def test_figure_draws_every_run_twice():
    axes = factorial.courses_figure(table(lambda *_: ending(0.3)), "A title")
    lines = [line for panel in axes.figure.axes for line in panel.lines if len(line.get_xdata()) > 1]
    assert len(lines) == 2 * 18 and all(len(line.get_xdata()) == len(EPOCHS) for line in lines)
    assert [panel.get_title() for panel in axes.figure.axes[:3]] == list(LEVELS[1])
    assert "augmentation none, step: 0.30 to 0.30" in alt_text(axes)
