"""Sub-populations of classes: planted ones are found, single populations of many shapes are left whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

import nclib
from nclib.measures import rounding
from nclib.measures import subpopulations as module
from nclib.measures.arrays import PrecisionWarning

DECAY = np.arange(1, 17) ** -0.75  # widths of the axes
ONE = {  # single populations, (n, 16)
    "gaussian": lambda rng, n: rng.normal(size=(n, 16)) * DECAY,
    "heavy tails": lambda rng, n: rng.standard_t(3, size=(n, 16)) * DECAY,
    "skewed": lambda rng, n: rng.exponential(size=(n, 16)) * DECAY,
    "uniform": lambda rng, n: rng.random((n, 16)) * DECAY,
}


def planted(sizes, gap=6.0, dim=16, seed=0):
    """Gaussians of unit width at the corners of a simplex ``gap`` apart, with their numbers."""
    rng, numbers = np.random.default_rng(seed), np.repeat(np.arange(len(sizes)), sizes)
    return rng.normal(size=(len(numbers), dim)) + gap / 2**0.5 * np.eye(dim)[numbers], numbers


@pytest.mark.parametrize("sizes", [(200, 200), (200, 200, 200), (400, 80), (2000, 100)])
def test_planted_ones_are_counted_and_labelled(sizes):
    h, numbers = planted(sizes)
    found = nclib.subpopulations(h, np.zeros(len(h), dtype=int))
    assert found.count.tolist() == [len(sizes)]
    assert found.p[0] < 0.02
    # means are 6 widths apart: one in 700 lies beyond the middle
    assert adjusted_rand_score(numbers, found.labels) > 0.9
    assert (np.diff(np.bincount(found.labels)) <= 0).all()  # the largest first


@pytest.mark.parametrize("shape", ONE)
def test_single_populations_stay_whole(shape):
    rng = np.random.default_rng(0)
    h = np.concatenate([ONE[shape](rng, 200) for _ in range(10)])
    found = nclib.subpopulations(h, np.repeat(np.arange(10), 200))
    assert found.count.tolist() == [1] * 10 and not found.labels.any()


def test_a_direction_is_not_tested_on_the_samples_that_chose_it():
    """The trap that the halves avoid: 100 samples of one Gaussian in 400 dimensions."""
    rng = np.random.default_rng(0)
    h = rng.normal(size=(100, 400))
    axis, valley = module._direction(h, rng)
    assert module.valley_p_value(valley, h @ axis) < 0.05 < module._p_value(h, rng)


def test_halvings_are_combined_to_a_p_value():
    """Six p-values as dependent as can be: evenly spaced from a random start, in random order of halvings."""
    rng = np.random.default_rng(0)
    start, draws = rng.random(2000), []
    for u in start:
        pairs = rng.permutation(((u + np.arange(6) / 6) % 1).reshape(3, 2))
        draws.append(module._combined(pairs.ravel()))
    for level in (0.02, 0.1, 0.3):
        assert np.mean(np.array(draws) <= level) < level + 3 * (level * (1 - level) / 2000) ** 0.5
    assert np.isclose(np.mean(np.array(draws) <= 0.1), 0.1, atol=3 * (0.09 / 2000) ** 0.5)  # no room is left
    assert module._combined([0.03, 0.9]) == 0.06
    assert module._combined([0.9, 0.6, 0.01, 0.02]) == 0.04  # the second of four
    assert module._combined([0.6, 0.7]) == 1.0


def test_only_the_class_that_hides_something_is_split():
    two, _ = planted((150, 150))
    h = np.concatenate([ONE["gaussian"](np.random.default_rng(1), 300), two, np.zeros((5, 16))])
    y = np.repeat([0, 2, 3], [300, 300, 5])  # no sample of class 1, too few of class 3
    found = nclib.subpopulations(h, y)
    assert found.count.tolist() == [1, 0, 2, 1]
    assert found.p[[1, 3]].tolist() == [1.0, 1.0]


def test_result_does_not_depend_on_scale_place_or_rotation():
    h, _ = planted((150, 150))
    y = np.zeros(len(h), dtype=int)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))[0]
    plain, moved = nclib.subpopulations(h, y), nclib.subpopulations(1e-4 * h @ turn + 3, y)
    assert plain.count == moved.count and (plain.labels == moved.labels).mean() > 0.99


@pytest.mark.parametrize("h", [np.ones((100, 3)), np.repeat(np.eye(4), 25, axis=0), np.ones((1, 1))])
def test_equal_samples_have_an_answer(h):
    found = nclib.subpopulations(h, np.zeros(len(h), dtype=int))
    assert found.count[0] >= 1 and np.isfinite(found.p).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 0.0}, "level"),
        ({"level": float("nan")}, "level"),
        ({"seed": -1}, "seed"),
        ({"y": [0]}, "labels"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"h": np.ones((3, 2)), "y": [0, 0, 1]} | change
    with pytest.raises(ValueError, match=message):
        nclib.subpopulations(**given)


@pytest.mark.parametrize("shape", [(60, 8), (30, 90)])
@pytest.mark.parametrize("size", [1e-200, 1.0, 1e40])
def test_principal_axes_are_those_of_the_singular_value_decomposition(shape, size):
    """Eigenvalues err by about n eps of the first: ``RANK``, squared, is above that for 1,000 samples."""
    x = np.random.default_rng(0).normal(size=shape) * np.arange(1, shape[1] + 1) ** -1.0
    x -= x.mean(axis=0)
    _, spread, axes = np.linalg.svd(x, full_matrices=False)
    found, theirs = module.principal_axes(size * x, 5)
    np.testing.assert_allclose(found / size, spread[:5], rtol=1e-8)
    np.testing.assert_allclose(np.abs((theirs * axes[:5]).sum(axis=1)), 1, rtol=1e-8)


@pytest.fixture(scope="module")
def weak():
    """Two classes, of which the first hides two of no great distance: h, y, and what is found."""
    hidden, _ = planted((60, 60), gap=4.5)
    h = np.concatenate([hidden, np.random.default_rng(1).normal(size=(120, 16))])
    y = np.repeat([0, 1], 120)
    found = nclib.subpopulations(h, y)
    assert found.count.tolist() == [2, 1] and 1e-4 < found.p[0] < 0.05
    return h, y, found


@pytest.mark.parametrize("numbers", [[1, 0], [0, 100], [7, 3]])
def test_numbers_of_classes_do_not_matter(weak, numbers):
    h, y, found = weak
    other = nclib.subpopulations(h, np.array(numbers)[y])
    assert other.p[numbers].tolist() == found.p.tolist()
    assert other.count[numbers].tolist() == found.count.tolist()
    assert other.labels.tolist() == found.labels.tolist()


def test_classes_that_are_not_tested_do_not_count(weak):
    """Twenty of five samples, and one of equal samples."""
    h, y, found = weak
    more = np.concatenate([h, np.random.default_rng(2).normal(size=(100, 16)), np.ones((50, 16))])
    labels = np.concatenate([y, 2 + np.arange(100) // 5, np.full(50, 22)])
    other = nclib.subpopulations(more, labels)
    assert other.p.tolist() == [*found.p, *np.ones(21)]


def test_ten_thousand_classes_of_few_samples_are_not_tested():
    y = np.arange(20_000) // 2
    found = nclib.subpopulations(np.random.default_rng(0).normal(size=(20_000, 2)), y)
    assert found.count.tolist() == [1] * 10_000 and (found.p == 1).all()


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="row 1 is the first"):
        nclib.subpopulations([[0.0], [np.nan]], [0, 0])


def test_duplicate_rows_are_no_sub_populations():
    """Each sample twice: one mode stays one."""
    h = np.repeat(np.random.default_rng(0).normal(size=(150, 16)) * DECAY, 2, axis=0)
    assert nclib.subpopulations(h, np.zeros(300, dtype=int)).count.tolist() == [1]


@pytest.mark.parametrize("sizes", [(150,), (200, 100)])
def test_equal_rows_count_as_one_sample(sizes):
    """Else halves share rows, and what one half chooses the other confirms."""
    h, _ = planted(sizes)
    h[0, 0] = 0.0
    rows = np.concatenate([np.arange(len(h)), np.random.default_rng(0).integers(len(h), size=300)])
    copies = h[rows]
    copies[rows == 0, 0] = -0.0
    once = nclib.subpopulations(h, np.zeros(len(h), dtype=int))
    found = nclib.subpopulations(copies, np.zeros(len(rows), dtype=int))
    assert found.count.tolist() == once.count.tolist() == [len(sizes)]
    assert found.p.tolist() == once.p.tolist()
    assert found.labels.tolist() == once.labels[rows].tolist()


def test_features_of_two_values_are_two_populations():
    h = np.repeat(np.eye(3)[:2], [150, 50], axis=0)
    found = nclib.subpopulations(h, np.zeros(200, dtype=int))
    assert found.count.tolist() == [2] and found.labels.tolist() == [0] * 150 + [1] * 50


def test_heavy_tails_along_other_directions_hide_nothing():
    """The two means are 6 widths apart; along eight other axes the variance is up to 30 times larger."""
    rng, numbers = np.random.default_rng(0), np.repeat([0, 1], 400)
    h = np.column_stack([6.0 * numbers + rng.normal(size=800), 6 * rng.standard_t(2, size=(800, 8))])
    found = nclib.subpopulations(h @ np.linalg.qr(rng.normal(size=(9, 9)))[0], np.zeros(800, dtype=int))
    assert found.count.tolist() == [2]
    assert adjusted_rand_score(numbers, found.labels) > 0.9


@pytest.mark.parametrize("always", [0, 2])
def test_features_that_are_seldom_active_have_an_answer(always):
    """Without the farthest samples some axes are empty, or all."""
    rng = np.random.default_rng(0)
    active = rng.random((400, 6)) < 0.02
    h = np.column_stack([rng.normal(size=(400, always)), active * rng.exponential(size=(400, 6))])
    found = nclib.subpopulations(h, np.zeros(400, dtype=int))
    assert 0 < found.p[0] <= 1


def narrow(steps, dim=8, samples=300, seed=0):
    """One Gaussian (samples, dim) between 1 and 2; ``steps`` are its widths in those of bfloat16, 1 / 128."""
    rng = np.random.default_rng(seed)
    return rng.uniform(1.1, 1.9, dim) + rng.normal(size=(samples, dim)) * np.asarray(steps) / 128


class TestRounding:
    @pytest.mark.parametrize(("form", "steps"), [(torch.bfloat16, 0.4), (torch.float16, 1.2 / 8)])
    @pytest.mark.parametrize("stored", [None, torch.float32, torch.float64])
    def test_steps_as_wide_as_a_class_are_named(self, form, steps, stored):
        h = torch.tensor(narrow(steps)).to(form)
        h = h if stored is None else h.to(stored)
        name = str(form).removeprefix("torch.")
        with pytest.warns(
            PrecisionWarning, match=rf"rounded to {name}, .* 1 of 2 classes: .*in float32"
        ) as said:
            nclib.subpopulations(h, np.r_[np.ones(290, int), np.zeros(10, int)])  # class 0 is too small
        assert said[0].filename == __file__

    def test_they_are_what_splits_one_gaussian(self):
        """In float32, where nothing is warned of, it stays whole: warnings are errors here."""
        h, y = narrow(np.exp(-0.15 * np.arange(16)), dim=16), np.zeros(300, int)
        assert nclib.subpopulations(h.astype(np.float32), y).count.tolist() == [1]
        with pytest.warns(PrecisionWarning):
            assert nclib.subpopulations(torch.tensor(h).to(torch.bfloat16), y).count[0] > 1

    @pytest.mark.parametrize("steps", [20, [20] * 7 + [0], [5000] * 7 + [1]])
    def test_fine_steps_constant_features_and_what_is_far_narrower_than_others_are_welcome(self, steps):
        h = torch.tensor(narrow(steps)).to(torch.bfloat16)
        assert nclib.subpopulations(h, np.zeros(300, int)).count.tolist() == [1]

    @pytest.mark.parametrize("form", rounding.FORMATS)
    def test_format_is_that_of_the_values(self, form):
        h = torch.tensor(narrow(3)).to(form)
        assert rounding.half_format(h) == rounding.half_format(h.double()) == form
        moved = h.double()
        moved[-1, -1] += 2**-20
        assert rounding.half_format(moved) is None
        assert rounding.half_format(2.0**20 * h.double()) == (form if form == torch.bfloat16 else None)

    def test_steps_are_those_between_neighbours(self):
        """At 3 and at 0.2, by the next number of the format; and where float16 has leading zeros."""
        for form, near in ((torch.bfloat16, [3, 0.2]), (torch.float16, [3, 2**-20])):
            x = torch.tensor([near], dtype=form)
            step = (torch.nextafter(x, 2 * x) - x).double().numpy()  # (1, 2)
            middle = x.double().numpy()
            for column in (0, 1):
                one = (middle + 2 * step * [[-1], [1]])[:, [column]]
                assert rounding.steps_in_deviation(one, form) == pytest.approx(2)
