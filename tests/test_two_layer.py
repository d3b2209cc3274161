"""The theory against quadrature, sampled paths and brute-force training; readers against scikit-learn."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch.nn.functional import softplus

import nclib
from nclib.chapters import conclusions, figures, synthetic_theory
from nclib.theory import noisy_inputs, two_layer

pytestmark = pytest.mark.numeric

START = -1e9  # a margin that every network has before training


def descend_for(w, a, x, y, steps, rate, decay):
    """Plain gradient descent of the first layer by autograd, with weight decay."""
    for _ in range(steps):
        w = w.detach().requires_grad_()
        out = y * ((x @ w).relu() @ a) / a.numel()
        (dw,) = torch.autograd.grad(softplus(-out).sum() * a.numel(), w)
        w = w - rate * (dw + decay * w)
    return w.detach()


def descend(w, a, x, y, margin, both_layers, length=0.0005):
    """Plain gradient descent of the whole network by autograd, each step worth ``length`` of the clock."""
    w, a = w.clone().requires_grad_(), a.clone().requires_grad_()
    while True:
        out = y * ((x @ w).relu() @ a) / a.numel()
        if out.mean() >= margin:
            return w.detach(), a.detach()
        loss = softplus(-out).sum() * a.numel() * 4 / len(x)  # four clusters' worth
        dw, da = torch.autograd.grad(loss, (w, a))
        with torch.no_grad():
            dt = length / torch.sigmoid(-out).mean()
            w -= dt * dw
            if both_layers:
                a -= dt * da


def sampled_pair(rho, n=400_000):
    z = np.random.default_rng(0).standard_normal((n, 2))
    return z[:, 0], rho * z[:, 0] + np.sqrt(1 - rho**2) * z[:, 1]


class TestClosedForms:
    @pytest.mark.parametrize("rho", [-0.7, 0.0, 0.4])
    def test_shares_are_quadrants_of_a_gaussian(self, rho):
        both, one = two_layer.unit_shares(rho)
        quadrant = multivariate_normal(cov=[[1, rho], [rho, 1]]).cdf([0, 0])
        assert both == pytest.approx(quadrant, abs=1e-6)
        assert 2 * both + 2 * one == pytest.approx(1)

    @pytest.mark.parametrize(("rho", "cosine", "ratio"), [(0, 1 / 2, 2 / 3), (-0.5, 1 / 9, 8 / 5)])
    def test_special_values(self, rho, cosine, ratio):
        assert two_layer.limit_cosine(rho) == pytest.approx(cosine)
        assert two_layer.limit_ratio(rho) == pytest.approx(ratio)

    def test_limits_above_zero(self):
        assert two_layer.limit_cosine(0.1) == 1
        assert two_layer.limit_ratio(0.1) == 0

    @pytest.mark.parametrize("rho", [0.2, 0.7])
    def test_frozen_spread_is_that_of_paths(self, rho):
        first, second = (np.array(x) for x in sampled_pair(rho))
        for one, other in ((first, second), (second, first)):
            late = (one > 0) & (other < 0)
            wait = -other[late] / rho
            one[late] += wait
            other[late] += rho * wait
        seen = (first > 0) | (second > 0)
        assert np.mean(seen * (first - second) ** 2) == pytest.approx(two_layer.frozen_spread(rho), rel=0.02)

    def test_exponents(self):
        assert 10 ** two_layer.both_layers_exponent(0) == pytest.approx(3.85, abs=0.01)
        assert two_layer.both_layers_exponent(-0.5) == pytest.approx(0, abs=1e-12)
        assert two_layer.both_layers_exponent(-0.8) == 0
        assert two_layer.both_layers_exponent(0.1) == 2
        assert two_layer.both_layers_exponent(0, members=3) == pytest.approx(2 - 2 * (2 / 3) ** 0.5)

    @pytest.mark.parametrize("rho", [-1.01, 1.5, np.nan])
    @pytest.mark.parametrize(
        "formula", [two_layer.limit_cosine, two_layer.limit_ratio, two_layer.both_layers_exponent]
    )
    def test_no_cosine(self, formula, rho):
        with pytest.raises(ValueError, match="rho"):
            formula(rho)

    @pytest.mark.parametrize("rho", [-0.5, 0.0])
    def test_collapsed_ratio_is_one_of_positive_cosines(self, rho):
        with pytest.raises(ValueError, match="only for rho > 0"):
            two_layer.collapsed_ratio(rho, 0.1)

    def test_bayes_accuracy_is_that_of_the_nearest_centre(self):
        rho, sigma = 0.3, 0.5
        noise = sigma * np.random.default_rng(0).standard_normal((400_000, 2))
        x = noise + np.array([1, 0])
        other = np.array([rho, np.sqrt(1 - rho**2)])
        nearest = np.linalg.norm(x - [1, 0], axis=1) < np.linalg.norm(x - other, axis=1)
        assert nearest.mean() == pytest.approx(noisy_inputs.bayes_accuracy(rho, sigma), abs=0.003)


class TestTraining:
    @pytest.mark.parametrize("both_layers", [False, True])
    @pytest.mark.parametrize("rho", [-0.4, 0.3])
    def test_is_gradient_descent_of_the_whole_network(self, rho, both_layers):
        how = {"seed": 3, "both_layers": both_layers, "width": 40, "step": 0.0005}
        start = two_layer.train(rho, 1.0, margin=START, **how)
        (x,) = start.centres()
        y = torch.tensor([1.0, 1, -1, -1]).double()
        w, a = descend(start.weights()[0], start.a[0], x, y, 1.0, both_layers)
        nets = two_layer.train(rho, 1.0, margin=1.0, **how)
        assert torch.allclose(nets.weights()[0], w, atol=0.01)
        assert torch.allclose(nets.a[0], a, atol=0.01)
        assert torch.allclose(nets.u[0].flatten(0, 1), x @ nets.weights()[0])

    def test_on_samples_is_too(self):
        how = {"rho": -0.2, "eps": 1.0, "seed": 3, "sigma": 0.3, "samples": 5, "width": 40, "step": 0.0005}
        start = noisy_inputs.train_on_samples(margin=START, **how)
        noise = noisy_inputs._noise([3], 5, 8)[0, 2].flatten(0, 1)  # (4, n, d)
        x = (start.centres()[0][:, None] + 0.3 * noise).flatten(0, 1)
        y = torch.ones(20).double()
        y[10:] = -1
        w, _ = descend(start.weights()[0], start.a[0], x, y, 1.0, both_layers=False)
        nets = noisy_inputs.train_on_samples(margin=1.0, **how)
        assert torch.allclose(nets.weights()[0], w, atol=0.01)

    @pytest.mark.parametrize("decay", [0.0, 0.2])
    def test_descend_is_gradient_descent_with_weight_decay(self, decay):
        start = two_layer.start([0.3, -0.4], 1.0, 3, width=40)
        nets = two_layer.descend(start, 10, decay=decay)
        for w, a, x, found in zip(start.weights(), start.a, start.centres(), nets.weights(), strict=True):
            want = descend_for(w, a, x, torch.tensor([1.0, 1, -1, -1]).double(), 100, 0.1, decay)
            assert torch.allclose(found, want, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("time", [0.04, 0.25, 1.1])
    def test_descend_ends_at_the_time_that_was_asked_for(self, time):
        """In equal steps of 0.1 at most; 1.1 / 0.1 is a little more than 11 in float64."""
        start = two_layer.start(0.3, 1.0, 3, width=40)
        steps = {0.04: 1, 0.25: 3, 1.1: 11}[time]
        nets = two_layer.descend(start, time, decay=0.5)
        shrunk = nets.rest / start.rest
        torch.testing.assert_close(shrunk, torch.full_like(shrunk, (1 - 0.5 * time / steps) ** steps))

    @pytest.mark.parametrize(("time", "step"), [(-5.0, 0.1), (np.nan, 0.1), (np.inf, 0.1), (1.0, 0.0)])
    def test_descend_goes_forwards(self, time, step):
        nets = two_layer.start([0.3], 1.0)
        with pytest.raises(ValueError, match="no time or more, in steps above 0"):
            two_layer.descend(nets, time, step=step)

    def test_decay_sweep_refuses_times_that_descend(self):
        with pytest.raises(ValueError, match="no time or more"):
            two_layer.decay_sweep([0.3], [0.0], [2, 1], [0], width=4)

    def test_descend_without_decay_takes_the_path_of_the_flow(self):
        nets = two_layer.descend(two_layer.start([0.3, -0.2], 1.0, 1), 100, step=0.05)
        for index, rho in enumerate((0.3, -0.2)):
            flow = two_layer.train(rho, 1.0, 1, margin=float(nets.margins()[index].mean()))
            # Euler steps; worst of 200 networks 0.020
            assert float(nets.ratio()[index]) == pytest.approx(float(flow.ratio()), rel=0.05)

    def test_centres_have_their_gram_matrix(self):
        nets = two_layer.train([0.3, -0.2], 1.0, margin=START, members=3, dim=7)
        gram = nets.centres() @ nets.centres().mT
        for rho, of_net in zip((0.3, -0.2), gram, strict=True):
            block = torch.full((3, 3), rho).double().fill_diagonal_(1)
            assert torch.allclose(of_net, torch.block_diag(block, block))

    def test_start_is_that_of_independent_weights(self):
        nets = two_layer.train(0.5, 0.1, margin=START, width=100_000)
        assert float(nets.weights().square().sum(1).mean()) == pytest.approx(0.01, rel=0.01)
        assert float(torch.corrcoef(nets.u[0, 0])[0, 1]) == pytest.approx(0.5, abs=0.01)

    def test_neighbours_do_not_matter(self):
        together = two_layer.train([0.1, 0.3, -0.5], [1, 0.1, 0.1], [4, 5, 4], width=32)
        alone = two_layer.train(0.3, 0.1, 5, width=32)
        assert torch.allclose(together.u[1], alone.u[0], rtol=1e-10)

    def test_ends_at_the_margin(self):
        margins = two_layer.train([0.3, -0.3], 0.1, margin=3).margins()
        assert torch.allclose(margins, torch.full_like(margins, 3), rtol=0.05)

    @pytest.mark.parametrize(("rho", "both_layers"), [(-0.3, False), (0.3, False), (0.0, True)])
    def test_half_the_step_changes_little(self, rho, both_layers):
        ratio = [
            two_layer.train(rho, 0.01, range(4), step=step, both_layers=both_layers).ratio()
            for step in (two_layer.STEP, two_layer.STEP / 2)
        ]
        assert torch.allclose(*ratio, rtol=0.02)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"rho": 1.0}, "rho must lie in"),
            ({"rho": -0.6, "members": 3}, r"rho must lie in \(-0.5, 1\)"),
            ({"eps": 0.0}, "eps must be positive"),
            ({"width": 33}, "width must be even"),
            ({"width": 0}, "width must be even"),
            ({"members": 1}, "two clusters at least"),
            ({"dim": 3}, "dim at least 4"),
        ],
    )
    def test_wrong_values(self, wrong, message):
        with pytest.raises(ValueError, match=message):
            two_layer.train(**({"rho": 0.0, "eps": 1.0} | wrong))


class TestTheory:
    @pytest.mark.parametrize("rho", [-0.5, -0.2, 0.0])
    def test_limit_within_two_per_cent(self, rho):
        table = two_layer.sweep([rho], [0.01], range(256), width=512)
        assert table["cosine"].mean() == pytest.approx(two_layer.limit_cosine(rho), rel=0.02)
        assert table["ratio"].mean() == pytest.approx(two_layer.limit_ratio(rho), rel=0.02)

    @pytest.mark.parametrize("rho", [0.1, 0.6])
    def test_collapsed_ratio(self, rho):
        table = two_layer.sweep([rho], [0.1, 0.001], range(64), width=512)
        for eps, rows in table.groupby("eps"):
            expected = two_layer.collapsed_ratio(rho, eps)
            assert rows["ratio"].mean() == pytest.approx(expected, rel=0.05)

    def test_longer_training_is_a_smaller_start(self):
        long = two_layer.sweep([0.2], [0.1], range(4), margin=20.0)["ratio"]
        small = two_layer.sweep([0.2], [0.025], range(4), margin=5.0)["ratio"]
        assert long.to_numpy() == pytest.approx(small.to_numpy(), rel=0.02)  # worst of 200 seeds 0.0075

    def test_weight_decay_forgets_the_start(self):
        table = two_layer.decay_sweep([0.3, -0.2], [0.0, 0.03], [100, 200], range(8), width=512)
        off = (table["ratio"] / table["theory"]).groupby([table["rho"], table["decay"], table["time"]]).mean()
        assert off.loc[0.3].to_numpy() == pytest.approx(
            np.ones(4), rel=0.2
        )  # finite eps and width; worst of 25 times 8 seeds 0.094
        assert off.loc[0.3, 0.03].diff().iloc[1] == pytest.approx(
            0, abs=0.02
        )  # while it falls 400-fold; worst 0.0095
        kept = table[table["rho"] < 0].groupby(["decay", "time"])["ratio"].mean()
        assert kept.max() / kept.min() < 1.01  # worst 1.0019
        settled = table[(table["rho"] > 0) & (table["decay"] > 0) & (table["time"] == 200)]["margin"].mean()
        both, one = two_layer.unit_shares(0.3)
        pull = (both + 2 * one) * 1.3 / 2 / (1 + np.exp(settled))  # of the loss, equal to the decay's
        assert pull == pytest.approx(0.03 * settled, rel=0.05)

    @pytest.mark.parametrize("rho", [0.0, -0.2])
    def test_exponent_of_both_layers_within_ten_per_cent(self, rho):
        table = two_layer.sweep([rho], [1e-2, 1e-3, 1e-4], range(4), both_layers=True)
        slopes = two_layer.exponents(table)["exponent"]
        assert slopes.mean() == pytest.approx(two_layer.both_layers_exponent(rho), rel=0.1)

    def test_three_clusters(self):
        table = two_layer.sweep([0.0], [1e-3, 1e-4, 1e-5], range(4), both_layers=True, members=3)
        expected = two_layer.both_layers_exponent(0.0, members=3)
        assert two_layer.exponents(table)["exponent"].mean() == pytest.approx(expected, rel=0.1)

    def test_two_means_lets_go_at_its_limit(self):
        rho, eps = 0.3, 0.1
        limit = float(noisy_inputs.two_means_limit(rho, two_layer.collapsed_ratio(rho, eps)))
        table = noisy_inputs.noise_sweep([rho], [limit / 2, 2 * limit], range(4), eps=eps)
        below, above = table.groupby("sigma")["two_means"].mean()
        assert below > 0.95
        assert above < 0.6
        assert table["probe"].min() > 0.99


class TestReaders:
    @pytest.fixture
    def features(self):
        h = torch.randn(3, 200, 6, generator=torch.Generator().manual_seed(0)).double()
        h[..., 0] *= 0.3
        h[:, 100:, :2] += 1
        return h

    def test_probe_is_the_linear_discriminant(self, features):
        y = np.arange(200) >= 100
        ours = noisy_inputs.probe_accuracy(features, features.flip(0))
        for train, test, accuracy in zip(features, features.flip(0), ours, strict=True):
            lda = LinearDiscriminantAnalysis(solver="lsqr").fit(train, y)
            assert float(accuracy) == pytest.approx(lda.score(test, y), abs=0.011)

    def test_two_means_is_that_of_scikit_learn(self, features):
        features[..., 1:] *= 0.3
        y = np.arange(200) >= 100
        for h, accuracy in zip(features, noisy_inputs.two_means_accuracy(features), strict=True):
            labels = KMeans(2, n_init=50, tol=0, random_state=0).fit_predict(h)
            agreement = np.mean(labels == y)
            assert float(accuracy) == pytest.approx(max(agreement, 1 - agreement), abs=0.011)


class TestTables:
    def test_sweep_has_a_row_for_each_network(self):
        table = two_layer.sweep([0.0, 0.3], [1, 0.1], range(3), width=32)
        assert len(table.drop_duplicates(["rho", "eps", "seed"])) == len(table) == 12
        row = table.iloc[7]
        alone = two_layer.train(row["rho"], row["eps"], int(row["seed"]), width=32)
        assert row["ratio"] == pytest.approx(float(alone.ratio()))
        h = alone.u.relu()[0]
        coarse = (h[0].mean(0) - h[1].mean(0)).square().sum()
        fine = (h[:, 0] - h[:, 1]).square().sum(1).mean()
        assert row["ratio"] == pytest.approx(float(fine / coarse))
        cosine = torch.cosine_similarity(h[:, 0], h[:, 1]).mean()
        assert row["cosine"] == pytest.approx(float(cosine))

    def test_exponents_of_a_power(self):
        table = pd.DataFrame([(0.1, e, 0, 3 * e**1.5) for e in (1, 0.1, 0.01)])
        table.columns = ["rho", "eps", "seed", "ratio"]
        slopes = two_layer.exponents(table)
        assert slopes["exponent"].tolist() == pytest.approx([1.5])
        assert synthetic_theory.exponent_table(slopes, lambda rho: 1.5).loc["0.1", "exponent, off"] in (
            "+0.0%",
            "-0.0%",
        )

    def test_limit_table(self):
        table = pd.DataFrame({"rho": [0.0, 0.0], "cosine": [0.49, 0.53], "ratio": [0.6, 0.6]})
        shown = synthetic_theory.limit_table(table).loc["0"]
        assert shown["cosine, formula"] == "0.5000"
        assert shown["cosine, off"] == "+2.0%"
        assert shown["ratio, trained"] == "0.6000"


@pytest.fixture(scope="module")
def table():
    return two_layer.sweep([-0.3, 0.0, 0.3], [1, 0.1], range(2), width=32)


class TestRealInputs:
    @pytest.mark.parametrize("rho", [-0.6, 0.0, 0.7])
    def test_similarity_is_rho_in_the_setting_whatever_all_share(self, rho):
        centres = two_layer.start(rho, 1.0).centres()[0]
        common = torch.zeros(4, 8).double()
        common[:, 6] = 3.0
        means = 5 * torch.cat([centres + common, centres * 0], dim=1)
        assert synthetic_theory.class_similarity(means, [0, 0, 1, 1]) == pytest.approx(rho, abs=1e-12)

    def test_tables_of_a_run(self, tiny_run):
        images = nclib.data.load("digits").train
        table = synthetic_theory.similarity_table(tiny_run, images.images, images.labels)
        assert table.index[0] == "pixels"
        m, group = tiny_run.moments("train", 0), tiny_run.grouping.fine_to_coarse
        rho = synthetic_theory.class_similarity(m.means, group)
        assert table.loc["features, epoch 0", "rho"] == pytest.approx(rho, abs=5e-4)
        compared = synthetic_theory.groupings_table([tiny_run])
        assert compared["rho at the start"].item() == pytest.approx(rho)

    @pytest.mark.parametrize(
        ("starts", "ends", "found"),
        [
            ([0.1, 0.1, 0.1], [0.4, 0.2, 0.1], "nan before training and -1.00 at the end"),
            ([0.3, 0.2, 0.1], [0.4, 0.3, 0.2], "-1.00 before training and -1.00 at the end"),
            ([0.3, 0.2, 0.1], [0.3, 0.25, 0.2], "the start it is 1.00, with the end over the start 1.00"),
            ([0.1, 0.2, 0.4], [0.2, 0.3, 0.41], "the start it is -1.00, with the end over the start -1.00"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:An input array is constant")
    def test_the_order_is_computed(self, starts, ends, found):
        columns = {"rho at the start": [-0.1, 0.2, 0.8], "explained at the start": starts}
        table = pd.DataFrame(columns | {"explained at the end": ends})
        table.index = pd.MultiIndex.from_tuples([("a", f"g{i}", "none", 0) for i in range(3)])
        sentence = synthetic_theory.order_sentence(table)
        assert found in sentence
        assert f"(a, g2, $\\hat\\rho$ = 0.80: {starts[2]:.2f} and {ends[2]:.2f})" in sentence


class TestStatements:
    """Nine networks at each point that follow the proposition, or do not."""

    FOLLOWED = ("holds", "holds", "holds", "holds", "observed")  # of the last all networks have one value

    def verdicts(self, error=0.02, power=2.0, decayed=(1.1, 1e-4), probe=0.985, two_means=0.6):
        rng, seeds = np.random.default_rng(0), range(9)
        near = {seed: 1 + 0.01 * rng.standard_normal() for seed in seeds}
        limits = pd.DataFrame({"rho": 0.0, "ratio": [2 / 3 * (1 + error * near[s]) for s in seeds]})
        goals = [(0.3, g, s, g ** (-power * near[s])) for g in (1, 2, 4) for s in seeds]
        by_margin = pd.DataFrame(goals, columns=["rho", "goal", "seed", "ratio"])
        times = [
            (rho, decay, 9, s, near[s] ** decay * (end if decay else start))
            for rho, start, end in ((-0.2, 1.1, decayed[0]), (0.3, 1e-2, decayed[1]))
            for decay in (0, 0.1)
            for s in seeds
        ]
        by_time = pd.DataFrame(times, columns=["rho", "decay", "time", "seed", "ratio"])
        read = [(s, 0.99, probe * near[s] ** 0.1, two_means * near[s]) for s in seeds]
        noisy = pd.DataFrame(read, columns=["seed", "inputs", "probe", "two_means"])
        said = synthetic_theory.statements(limits, by_margin, by_time, {"a": noisy}, 100)
        return [row["verdict"] for row in conclusions.show(*said).rows]

    def test_networks_that_follow_the_proposition(self):
        assert self.verdicts() == list(self.FOLLOWED)

    @pytest.mark.parametrize(
        ("changed", "at", "verdict"),
        [
            ({"error": 0.3}, 0, "does not hold"),
            ({"power": 0.5}, 1, "does not hold"),
            ({"decayed": (1.1, 1e-2)}, 2, "does not hold"),  # decay removes nothing
            ({"decayed": (1e-2, 1e-4)}, 2, "not observed"),  # decay removes from both alike
            ({"probe": 0.96}, 3, "does not hold"),
            ({"two_means": 0.99}, 4, "not observed"),
        ],
    )
    def test_others_change_one_sentence(self, changed, at, verdict):
        expected = [verdict if i == at else followed for i, followed in enumerate(self.FOLLOWED)]
        assert self.verdicts(**changed) == expected


class TestFigures:
    @pytest.fixture(autouse=True)
    def closed(self):
        yield
        plt.close("all")

    def test_transition_draws_means(self, table):
        axes = synthetic_theory.transition_figure(table)
        drawn = axes.containers[1].lines[0].get_ydata()
        assert drawn == pytest.approx(table[table["eps"] == 0.1].groupby("rho")["ratio"].mean())
        assert "eps 0.1" in figures.alt_text(axes)

    def test_phase_diagram_draws_mean_logarithms(self, table):
        axes = synthetic_theory.phase_diagram_figure({"one": table})
        colours = axes.collections[0].get_array()
        expected = np.log10(table["ratio"]).groupby([table["eps"], table["rho"]]).mean()
        assert np.asarray(colours).ravel() == pytest.approx(expected.to_numpy())

    def test_eps_law_draws_predicted_slopes(self, table):
        axes = synthetic_theory.eps_law_figure({"one": table}, {"one": lambda rho: 1.5})
        slopes = [np.diff(np.log10(line.get_ydata()))[0] for line in axes.lines if line.get_ls() == "-"]
        assert slopes == pytest.approx([1.5] * 3)

    def test_units_keep_or_change_what_they_see(self):
        axes = synthetic_theory.units_figure((-0.4, 0.4), seed=1, width=32)
        assert len([panel for panel in axes.figure.axes if panel.get_title()]) == 2
        text = figures.alt_text(axes)
        counts = [int(part.split(":")[1].split()[0]) for part in text.split(". ")[1].split("; ")]
        assert sum(counts) == 2 * 16

    def test_longer_figure_draws_means_and_the_theory(self, table):
        by_margin = table.assign(goal=5.0)
        by_time = two_layer.decay_sweep([0.3], [0.0, 0.1], [1, 2], range(2), width=32)
        axes = synthetic_theory.longer_figure(by_margin[by_margin["eps"] == 0.1], by_time)
        right = axes.figure.axes[1]
        expected = by_time[by_time["decay"] == 0].groupby("time")
        assert right.containers[0].lines[0].get_ydata() == pytest.approx(expected["ratio"].mean())
        drawn = [line.get_ydata() for line in right.lines if line.get_ls() == "-"]
        assert drawn[0] == pytest.approx(expected["theory"].mean())

    def test_noise_diagram_has_a_row_for_each_name(self):
        table = noisy_inputs.noise_sweep([-0.3, 0.2, 0.6], [0.001, 0.03, 0.6], range(2), width=32, samples=20)
        axes = synthetic_theory.noise_diagram_figure({"one": table, "two": table})
        assert len([panel for panel in axes.figure.axes if panel.get_title()]) == 6
        assert "linear probe, two" in figures.alt_text(axes)
