"""Losses against formulas written out, the measures they are made of, and numerical gradients."""

from __future__ import annotations

import math

import pytest
import torch

from nclib import collapse_metrics
from nclib.config import CHOICES
from nclib.training.losses import LOSSES, NC_TERMS, nc_loss, nc_terms

pytestmark = pytest.mark.numeric

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]])
LABELS = torch.tensor([0, 1])
MISSING = {
    "all classes": [0, 1, 2, 3] * 3,
    "a class missing": [0, 1, 3] * 4,
    "a class of one sample": [0] * 5 + [1] * 3 + [2] * 3 + [3],
    "two classes": [0] * 5 + [2] * 7,
}


def sample(labels, dim=7, classes=4, seed=0):
    """Random features and weights in float64 that want a gradient: h, y, weight."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(n, dim, generator=generator, dtype=torch.float64) for n in (len(labels), classes)]
    return rows[0].requires_grad_(), torch.tensor(labels), rows[1].requires_grad_()


def frame(classes, dim):
    """Exact simplex equiangular tight frame (C, D)."""
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(1)).double())[0]
    return (torch.eye(classes, dtype=torch.float64) - 1 / classes) @ turn[:classes]


def test_every_choice_has_a_loss():
    assert set(LOSSES) == set(CHOICES["loss"])


def test_cross_entropy():
    first = -2.0 + math.log(math.exp(2) + math.exp(-1) + math.exp(0.5))
    second = math.log(2 + math.exp(3))
    loss = LOSSES["cross-entropy"](None, LOGITS, LABELS, None)
    assert float(loss) == pytest.approx((first + second) / 2)


def test_squared_error():
    gaps = [2 - 1, -1, 0.5, 0, 0 - 1, 3]
    assert float(LOSSES["mse"](None, LOGITS, LABELS, None)) == pytest.approx(sum(g**2 for g in gaps) / 6)


@pytest.mark.parametrize("name", LOSSES)
def test_keeps_its_precision(name):
    h, y, weight = sample([0, 1, 2, 3] * 3)
    for dtype in (torch.float32, torch.float64):
        parts = h.detach().to(dtype), weight.detach().to(dtype)
        assert LOSSES[name](parts[0], parts[0] @ parts[1].T, y, parts[1]).dtype == dtype


class TestCollapseLoss:
    @pytest.mark.parametrize("labels", [[0, 1, 2, 3] * 3, [0, 0, 0, 1, 1, 2, 3, 3, 3, 3]])
    def test_adds_the_measures(self, labels):
        h, y, weight = sample(labels)
        measured = collapse_metrics(h.detach(), y, weight.detach())
        terms = {name: float(term.detach()) for name, term in nc_terms(h, y, weight).items()}
        assert terms == pytest.approx({k: v for k, v in measured.items() if k != "nc4"}, rel=1e-10)
        assert float(nc_loss(h, y, weight).detach()) == pytest.approx(sum(measured[t] for t in NC_TERMS))

    @pytest.mark.parametrize("live", [1, 2])
    def test_fewer_live_units_than_classes_need(self, live):
        """Means of rank 1 or 2, of 4 classes: as with dead units, in any order of the samples."""
        h, y, weight = sample([0, 1, 2, 3] * 10)
        h = (h * (torch.arange(7) < live)).detach()
        measured = collapse_metrics(h, y, weight.detach())["nc1"]
        for seed in range(5):
            order = torch.randperm(len(h), generator=torch.Generator().manual_seed(seed))
            turned = h[order].requires_grad_()
            nc1 = nc_loss(turned, y[order], weight, "nc1")
            assert float(nc1.detach()) == pytest.approx(measured, rel=1e-6)
            nc1.backward()
            assert torch.isfinite(turned.grad).all()

    @pytest.mark.parametrize("labels", MISSING.values(), ids=MISSING)
    def test_numerical_gradient(self, labels):
        h, y, weight = sample(labels)
        terms = tuple(nc_terms(h, y, weight))
        assert torch.autograd.gradcheck(lambda a, b: nc_loss(a, y, b, terms), (h, weight))

    @pytest.mark.parametrize("labels", MISSING.values(), ids=MISSING)
    def test_collapse_is_a_zero_with_finite_gradient(self, labels):
        y = torch.tensor(labels)
        weight = frame(4, 7).requires_grad_()
        h = (3 * frame(4, 7)[y] + 2).requires_grad_()
        loss = nc_loss(h, y, weight, tuple(nc_terms(h, y, weight)))
        loss.backward()
        assert 0 <= float(loss.detach()) < 1e-12
        assert torch.isfinite(h.grad).all() and torch.isfinite(weight.grad).all()

    def test_a_missing_class_is_left_out(self):
        """The same measures as those of the classes that are there, numbered anew."""
        h, y, weight = sample(MISSING["a class missing"])
        present = nc_terms(h, torch.tensor([0, 1, -1, 2])[y], weight[[0, 1, 3]])
        whole = nc_terms(h, y, weight)
        for name in ("nc1", "nc2_equinorm_means", "nc2_equiangular_means", "nc2_maxangle_means"):
            assert float(whole[name].detach()) == pytest.approx(float(present[name].detach()), rel=1e-12)

    def test_one_sample_a_class_has_no_variation_within(self):
        assert float(nc_terms(*sample([0, 1, 2, 3]))["nc1"].detach()) == pytest.approx(0, abs=1e-20)

    def test_descends_to_collapse(self):
        h, y, weight = sample([0, 1, 2, 3] * 5)
        optimizer = torch.optim.Adam([h, weight], lr=0.05)
        for step in range(600):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 600)
            optimizer.zero_grad()
            nc_loss(h, y, weight).backward()
            optimizer.step()
        measured = collapse_metrics(h.detach(), y, weight.detach())
        assert max(measured[name] for name in NC_TERMS) < 0.01 and measured["nc4"] == 0

    def test_coinciding_means_are_not_finite(self):
        h, y, weight = sample([0, 1, 2, 3] * 3)
        assert not torch.isfinite(nc_loss(torch.ones_like(h), y, weight))

    @pytest.mark.parametrize(
        ("labels", "dim", "terms", "message"),
        [
            ([1, 1, 1], 7, NC_TERMS, "fewer than two"),
            ([0, 1, 4], 7, NC_TERMS, "below the class count 4"),
            ([0, 1, 2, 3], 2, NC_TERMS, "4 classes needs 3 dimensions, not 2"),
            ([0, 1, 2, 3], 7, ("nc4",), r"unknown terms \['nc4'\]; allowed: nc1,"),
            ([0, 1, 2, 3], 7, (), "unknown terms"),
        ],
    )
    def test_refuses(self, labels, dim, terms, message):
        h, y, weight = sample(labels, dim)
        with pytest.raises(ValueError, match=message):
            nc_loss(h, y, weight, terms)

    def test_terms_by_a_name_or_from_a_generator(self):
        h, y, weight = sample([0, 1, 2, 3] * 3)
        assert nc_loss(h, y, weight, "nc1") == nc_loss(h, y, weight, ("nc1",))
        assert nc_loss(h, y, weight, (term for term in NC_TERMS)) == nc_loss(h, y, weight)

    def test_arrays_and_tensors_agree(self):
        h, y, weight = (x.detach() for x in sample([0, 1, 2, 3] * 3))
        assert nc_loss(h.numpy(), y.numpy(), weight.numpy()) == nc_loss(h, y, weight)

    def test_refuses_other_shapes(self):
        h, y, weight = sample([0, 1, 2, 3])
        with pytest.raises(ValueError, match=r"one D; got \(4, 7\), \(4, 6\)"):
            nc_loss(h, y, weight[:, :6])


@pytest.mark.parametrize("name", LOSSES)
def test_of_several_networks_is_that_of_each(name):
    """Value and gradient; the batches miss different classes."""
    samples = [sample(labels, seed=s) for s, labels in enumerate(list(MISSING.values()))]
    h, y, weight = (torch.stack([part.detach() for part in parts]) for parts in zip(*samples, strict=True))
    h.requires_grad_()
    together = LOSSES[name](h, h @ weight.mT, y, weight)
    (gradient,) = torch.autograd.grad(together.sum(), h)
    for s, (alone, labels, its) in enumerate(samples):
        loss = LOSSES[name](alone, alone @ its.T, labels, its)
        torch.testing.assert_close(together[s], loss, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient[s], torch.autograd.grad(loss, alone)[0], rtol=1e-9, atol=1e-12)
