"""Close pairs against their closed form; rounding against numpy's half precision and bit counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from nclib.chapters import conclusions, numerical_honesty
from nclib.measures.collapse import variability
from nclib.measures.distances import class_distances, msdr
from nclib.measures.moments import Moments

pytestmark = pytest.mark.numeric

SMALL = {"samples": 4_000, "dim": 64}


class TestClosePairs:
    def test_distances_are_as_said(self):
        h, y = numerical_honesty.close_pairs(0.01, noise=0, **SMALL)
        gaps = class_distances(h, y).sqrt()
        siblings = torch.arange(10) ^ 1
        assert torch.allclose(gaps[torch.arange(10), siblings], torch.full((10,), 0.01, dtype=torch.float64))
        apart = gaps[::2, ::2][~torch.eye(5, dtype=torch.bool)]
        assert torch.allclose(apart, torch.full((20,), 2**0.5, dtype=torch.float64), rtol=1e-4)

    @pytest.mark.parametrize(("distance", "pairs"), [(1.0, 5), (0.01, 5), (0.1, 3)])
    def test_nc1_has_its_closed_form(self, distance, pairs):
        h, y = numerical_honesty.close_pairs(distance, samples=60_000, dim=16, pairs=pairs)
        expected = numerical_honesty.close_pairs_nc1(distance, pairs)
        # five standard deviations of 60,000 samples; the worst of 75 draws is off by 0.0065
        assert numerical_honesty.nc1_by_pinv(h, y) == pytest.approx(expected, rel=0.015)
        assert variability(Moments.of(h, y)) == pytest.approx(numerical_honesty.nc1_by_pinv(h, y), rel=1e-6)

    def test_too_few_dimensions(self):
        with pytest.raises(ValueError, match="5 pairs need 10 dimensions; got 9"):
            numerical_honesty.close_pairs(1, dim=9)


class TestPinv:
    def test_drops_siblings_below_its_limit_and_keeps_them_above(self):
        limit = numerical_honesty.pinv_limit(64)
        for distance, expected in (
            (2 * limit, numerical_honesty.close_pairs_nc1(2 * limit)),
            (limit / 2, numerical_honesty.siblings_dropped_nc1(limit / 2)),
        ):
            h, y = numerical_honesty.close_pairs(distance, **SMALL)
            assert numerical_honesty.nc1_by_pinv(h.float(), y) == pytest.approx(expected, rel=0.03)

    def test_lower_cut_off_finds_them_again(self):
        h, y = numerical_honesty.close_pairs(0.003, **SMALL)
        assert numerical_honesty.nc1_by_pinv(h, y, rtol=1e-3) < 1e-3 * numerical_honesty.nc1_by_pinv(h, y)


class TestRounded:
    values = torch.randn(200, 50, generator=torch.Generator().manual_seed(0)) * 10

    def test_tf32_is_fp16_in_the_range_of_fp16(self):
        inside = self.values[(self.values.abs() > 2**-14).all(dim=1)]
        assert len(inside) > 50
        half = torch.from_numpy(inside.numpy().astype(np.float16).astype(np.float32))
        assert torch.equal(numerical_honesty.rounded(inside, "tf32"), half)
        assert torch.equal(numerical_honesty.rounded(inside, "fp16"), half)

    def test_tf32_has_the_range_of_fp32(self):
        wide = torch.tensor([[1e30, -1e-30, 0.0, 2.0**-14]])
        fraction, exponent = torch.frexp(wide.double())  # 0.5 <= |fraction| < 1
        nearest = torch.ldexp((fraction * 2**11).round() / 2**11, exponent)
        assert torch.equal(numerical_honesty.rounded(wide, "tf32").double(), nearest)

    def test_ties_go_to_even(self):
        ties = torch.tensor([[1 + 2**-11, 1 + 3 * 2**-11, -1 - 2**-11]])
        even = torch.tensor([[1.0, 1 + 2**-9, -1.0]])
        assert torch.equal(numerical_honesty.rounded(ties, "tf32"), even)

    @pytest.mark.parametrize(("name", "bits"), [("fp32", 23), ("tf32", 10), ("fp16", 10), ("bf16", 7)])
    def test_keeps_its_fraction_bits(self, name, bits):
        x = 1 + torch.rand(1, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        assert torch.equal(numerical_honesty.rounded(x, name).double(), (x * 2**bits).round() / 2**bits)

    def test_unknown_format(self):
        with pytest.raises(ValueError, match="unknown format 'fp8'; choose one of fp32, "):
            numerical_honesty.rounded(self.values, "fp8")


@pytest.fixture(scope="module")
def errors():
    return numerical_honesty.nc1_errors((1, 0.01), samples=2_000)


class TestErrors:
    def test_only_exact_squares_of_float32_survive_close_siblings(self, errors):
        close = errors[errors["distance"] == 0.01].set_index("method")["error"]
        assert close["fp32 features, fp64 Gram matrix"] < 1e-5
        assert close["fp32 features, fp32 pinv"] > 0.99
        assert close["bf16 features, fp64 Gram matrix"] > 0.5

    def test_table_holds_them(self, errors):
        table = numerical_honesty.nc1_table(errors)
        assert (
            table.loc["closed form, many samples", 0.01] == f"{numerical_honesty.close_pairs_nc1(0.01):.3g}"
        )
        assert table.loc["fp32 features, fp32 pinv", 0.01] == f"{errors['nc1'][5]:.3g}"


class TestRounding:
    h, fine = numerical_honesty.close_pairs(0.1, samples=400, dim=16, noise=0.2)
    coarse = fine // 2

    def test_shrinking_squares_into_nc1_and_leaves_msdr(self):
        before, after = (numerical_honesty.shrunk(self.h, self.coarse, factor) for factor in (1, 10))
        assert torch.allclose(before, self.h)
        nc1 = [variability(Moments.of(x, self.coarse)) for x in (before, after)]
        assert nc1[0] / nc1[1] == pytest.approx(100)
        assert torch.allclose(msdr(before, self.fine, self.coarse), msdr(after, self.fine, self.coarse))

    def test_rows_are_the_measures(self):
        table = numerical_honesty.rounding(self.h, self.fine, self.coarse, (1, 300), ("fp32", "bf16"))
        rows = table.set_index(["factor", "format"])
        expected = float(msdr(self.h, self.fine, self.coarse).mean())
        assert rows.loc[(1, "fp32"), "msdr"] == pytest.approx(expected, rel=1e-6)
        assert rows.loc[(1, "fp32"), "nc1"] == pytest.approx(variability(Moments.of(self.h, self.coarse)))
        assert rows.loc[(1, "bf16"), "found"] > 0.95
        assert rows.loc[(300, "fp32"), "found"] > rows.loc[(300, "bf16"), "found"]


class TestStatements:
    def verdicts(self, errors, bf16: float) -> list[str]:
        rows = [
            {"factor": factor, "format": name, "found": 0.9 if name == "fp32" or factor == 1 else bf16}
            for factor in (1, 1000)
            for name in ("fp32", "bf16")
        ]
        kept = {"x": [pd.DataFrame(rows)]}
        made = numerical_honesty.statements(errors, 2_000, kept, {"x": 100})
        return [row["verdict"] for row in conclusions.show(*made).rows]

    def test_change_with_what_rounding_does(self, errors):
        yes, no = "observed", "not observed"
        assert self.verdicts(errors, bf16=0.6) == [yes, yes, yes, yes, yes]
        exact = errors.assign(nc1=errors["reference"], error=0.0)
        assert self.verdicts(exact, bf16=0.9) == [yes, yes, no, yes, no]
        wrong = errors.assign(error=0.5)
        assert self.verdicts(wrong, bf16=0.9)[:2] == [no, no]
