"""Feature extraction: the right layer, in float32, leaving the model as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from threading import Event, Thread

import pytest
import torch
from torch import nn
from tqdm import tqdm

from nclib.data.torchvision_import import import_torchvision
from nclib.networks.features import OPERATIONS, FeatureSet, exact_float32, extract, features_of
from nclib.networks.models import build_model

pytestmark = pytest.mark.numeric


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3))


def loader(n: int = 10, size: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(1))
    return list(zip(x.split(size), (torch.arange(n) % 3).split(size), strict=True))


def parts(f: FeatureSet) -> list[torch.Tensor]:
    return [f.h, f.fine, f.coarse, f.weight, f.bias]


def inputs() -> torch.Tensor:
    return torch.cat([x for x, _ in loader()])


class TestExtract:
    def test_is_the_input_of_the_last_linear_layer(self):
        model = network()
        f = extract(model, loader())
        torch.testing.assert_close(f.h, torch.relu(inputs() @ model[0].weight.T + model[0].bias).detach())
        assert f.fine.tolist() == [i % 3 for i in range(10)]
        assert torch.equal(f.weight, model[3].weight)

    def test_logits_are_the_models(self):
        model = network()
        torch.testing.assert_close(extract(model, loader()).logits(), model.eval()(inputs()).detach())

    def test_copies_on_several_devices_are_not_asked(self):
        """They hand in parts of a batch in the order in which they are done."""

        class Scattered(nn.DataParallel):
            def forward(self, *_):
                raise AssertionError("the copies were asked")

        model = network()
        found, expected = parts(extract(Scattered(model), loader())), parts(extract(model, loader()))
        assert all(map(torch.equal, found, expected))

    def test_named_layer(self):
        f = extract(network(), loader(), layer="0")
        assert torch.equal(f.h, inputs())
        assert f.weight.shape == (5, 6)

    def test_unknown_layer_lists_the_linear_ones(self):
        with pytest.raises(ValueError, match="no linear layer '1'; the model has: 0, 3"):
            extract(network(), loader(), layer="1")

    def test_any_name_of_a_layer_will_do(self):
        model = Wrapped(lambda logits: logits)
        model.fc = model.body[0]
        assert torch.equal(extract(model, loader(), layer="fc").h, inputs())
        assert extract(model, loader()).weight.shape == (3, 5)  # the last one is the last that is new

    @pytest.mark.parametrize("change", [lambda a, b: a.add_(b).div_(2), lambda a, _: a.neg_()])
    def test_an_output_that_the_model_changes_in_place_is_another(self, change):
        model = nn.Module()
        model.first, model.second = nn.Linear(6, 3), nn.Linear(6, 3)
        model.forward = lambda x: change(model.second(x), model.first(x))
        with pytest.raises(ValueError, match="not that of its last linear layer, 'second'"):
            extract(model, loader())

    def test_a_mean_of_two_heads_needs_a_name(self):
        model = nn.Module()
        model.first, model.second = nn.Linear(6, 3), nn.Linear(6, 3)
        model.forward = lambda x: (model.first(x) + model.second(x)) / 2
        with pytest.raises(ValueError, match="averages two heads: name"):
            extract(model, loader())
        assert torch.equal(extract(model, loader(), layer="first").weight, model.first.weight)

    @pytest.mark.parametrize("classes", [3, 5])  # fewer outputs than the body's last layer, or as many
    def test_a_head_that_is_registered_before_the_body_needs_a_name(self, classes):
        torch.manual_seed(0)
        model = HeadFirst(nn.Linear(5, classes))
        with pytest.raises(
            ValueError, match=r"last linear layer, 'body\.0'.*name the layer.*: head, body\.0$"
        ):
            extract(model, loader())
        assert torch.equal(extract(model, loader(), layer="head").h, model.features(inputs()).detach())

    @pytest.mark.parametrize(
        "head",
        [
            lambda h: nn.functional.normalize(h) @ torch.ones(5, 3),  # class weights that are no module's
            lambda h: nn.functional.conv2d(h[:, :, None, None], torch.ones(3, 5, 1, 1)),
            lambda h: h.mean(dim=1),
            lambda h: h.argmax(dim=1),
            lambda h: (h @ torch.ones(5, 3), None),
            lambda h: {"logits": h @ torch.ones(5, 3)},
        ],
        ids=["cosine", "1x1 convolution", "mean", "class", "tuple", "dict"],
    )
    def test_a_head_that_is_no_linear_layer_needs_a_name(self, head):
        model = HeadFirst(head)
        with pytest.raises(ValueError, match=r"is no torch\.nn\.Linear"):
            extract(model, loader())
        assert torch.equal(extract(model, loader(), layer="body.0").h, inputs())

    def test_sums_over_classes_need_a_name(self):
        model = nn.Sequential(nn.Linear(6, 4), nn.Softmax(1), nn.Unflatten(1, (2, 2)), Sum())
        with pytest.raises(ValueError, match="name the layer"):
            extract(model, loader())
        assert extract(model, loader(), layer="0").weight.shape == (4, 6)

    @pytest.mark.parametrize(
        "returned",
        [
            lambda logits: (logits, None),
            lambda logits: {"loss": logits.sum(), "logits": logits},
            lambda logits: (logits.new_zeros(len(logits), 7), logits.softmax(dim=1)),
            lambda logits: logits.view(-1, 3, 1, 1),
            lambda logits: None,
            lambda logits: logits.sum(),
        ],
        ids=["tuple", "dict", "two parts", "of rank 4", "none", "scalar"],
    )
    def test_an_output_that_may_be_the_last_layers_needs_no_name(self, returned):
        model = Wrapped(returned)
        assert torch.equal(extract(model, loader()).h, extract(model.body, loader()).h)

    def test_one_output_may_lose_its_axis(self):
        model = nn.Sequential(nn.Linear(6, 1), nn.Flatten(0))
        assert torch.equal(extract(model, loader()).h, inputs())

    @pytest.mark.parametrize("after", [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid(), nn.Identity()])
    def test_what_keeps_the_order_of_logits_may_follow_the_last_layer(self, after):
        model = nn.Sequential(nn.Linear(6, 3), after)
        with torch.no_grad():
            model[0].weight.mul_(1e3)  # saturated: several classes are equal
        assert extract(model, loader()).weight.shape == (3, 6)

    def test_no_module(self):
        with pytest.raises(TypeError, match=r"torch\.nn\.Module; got function"):
            extract(lambda x: x, loader())

    def test_no_linear_layer(self):
        with pytest.raises(ValueError, match=r"no torch\.nn\.Linear layer.*let its head be one"):
            extract(nn.Sequential(nn.Conv1d(1, 1, 1)), loader())

    def test_no_bias_reads_as_zero(self):
        assert extract(nn.Linear(6, 3, bias=False), loader()).bias.tolist() == [0, 0, 0]

    def test_features_of_higher_rank_are_refused(self):
        with pytest.raises(ValueError, match=r"shape \(10, 1, 6\) for 10 labels"):
            extract(nn.Linear(6, 3), [(x[:, None], y) for x, y in loader()])

    def test_model_is_left_as_it_was(self):
        model = network().train()
        extract(model, loader())
        assert model.training
        assert not model[3]._forward_pre_hooks
        assert all(p.grad is None for p in model.parameters())

    def test_is_a_copy_of_everything(self):
        model = nn.Linear(6, 3)
        x, y = torch.randn(4, 6), torch.arange(4) % 3
        f = extract(model, [(x, y)])
        kept = [part.clone() for part in parts(f)]
        with torch.no_grad():
            for shared in (x, y, model.weight, model.bias):
                shared.add_(1)
        f.coarse.add_(1)
        kept[2].add_(1)
        assert all(torch.equal(a, b) for a, b in zip(kept, parts(f), strict=True))

    def test_a_loader_that_fills_one_buffer(self):
        x, y = torch.empty(2, 6), torch.empty(2, dtype=torch.long)
        batches = ((x.fill_(i), y.fill_(i)) for i in range(3))
        f = extract(nn.Linear(6, 3), batches)
        assert f.h[:, 0].tolist() == f.fine.tolist() == [0, 0, 1, 1, 2, 2]

    def test_features_that_the_model_overwrites(self):
        class Overwriting(nn.Linear):
            def forward(self, x):
                logits = super().forward(x)
                x.zero_()
                return logits

        assert torch.equal(extract(Overwriting(6, 3), loader()).h, inputs())

    def test_head_that_is_called_by_name(self):
        class Named(nn.Module):
            def __init__(self):
                super().__init__()
                self.head = nn.Linear(6, 3)

            def forward(self, x):
                return self.head(input=x)

        assert torch.equal(extract(Named(), loader()).h, inputs())

    @pytest.mark.parametrize("fails", [False, True])
    def test_every_module_is_left_in_its_mode(self, fails):
        model = nn.Sequential(nn.BatchNorm1d(6), nn.BatchNorm1d(6), nn.Linear(6, 3)).train()
        model[0].eval()  # frozen, as in fine-tuning
        before = [t.clone() for t in model.state_dict().values()]
        if fails:
            with pytest.raises(RuntimeError):
                extract(model, [*loader(), (torch.zeros(2, 7), torch.zeros(2))])
        else:
            extract(model, loader())
        assert [module.training for module in model.modules()] == [True, False, True, True]
        assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))

    def test_head_that_changes_whenever_it_is_read_in_training(self):
        model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 3))).train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        f = extract(model, loader())
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert torch.equal(f.weight, model.eval()[0].weight.detach())

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf])
    def test_features_that_are_not_finite(self, bad):
        batches = loader()
        batches[1][0][2] = bad
        with pytest.raises(ValueError, match=r"features must be finite; row 6 "):
            extract(nn.Linear(6, 3), batches)

    @pytest.mark.parametrize(
        ("batches", "message"),
        [
            ([], "0 batches"),
            ([(torch.zeros(2, 6), torch.tensor([0.0, 0.5]))], "integers; got torch.float32"),
            ([(torch.zeros(2, 6), torch.eye(2))], r"\(2, 2\)"),
            ([(torch.zeros(1, 6), 0)], r"torch.int64 \(\)"),
            ([(torch.zeros(2, 6), torch.tensor([0.0, 1e30]))], r"within 2\*\*53"),
            ([(torch.zeros(2, 6), torch.tensor([0, 2**63 + 5], dtype=torch.uint64))], r"below 2\*\*63"),
            (
                [(torch.zeros(3, 6), torch.zeros(2)), (torch.zeros(2, 6), torch.ones(3))],  # five of each
                "batch 0 has 2 labels, and the layer saw 3 rows",
            ),
        ],
    )
    def test_batches_that_are_refused(self, batches, message):
        with pytest.raises(ValueError, match=message):
            extract(nn.Linear(6, 3), batches)

    @pytest.mark.parametrize(
        ("batch", "message"),
        [
            ({"image": torch.zeros(2, 6), "label": [0, 1]}, "a mapping with keys 'image', 'label'"),
            ((torch.zeros(2, 6), torch.zeros(2), ["a", "b"]), r"got \(Tensor, Tensor, list\)"),
            ([torch.zeros(2, 6)], r"got \(Tensor\)"),
            (torch.zeros(2, 6), "got Tensor"),
            ((["a", "b"], torch.zeros(2)), r"got \(list, Tensor\)"),
            ((torch.zeros(2, 6), ["cat", "dog"]), "labels of a batch must be .B,. integers"),
        ],
    )
    def test_batches_of_other_parts(self, batch, message):
        with pytest.raises(TypeError, match=message):
            extract(nn.Linear(6, 3), [batch])

    def test_an_iterator_that_was_read_before(self):
        batches = iter(loader())
        extract(network(), batches)
        with pytest.raises(ValueError, match="can be read only once"):
            extract(network(), batches)

    def test_largest_labels_that_are_kept_exactly(self):
        for y in (torch.tensor([-(2.0**53), 2.0**53]), torch.tensor([0, 2**63 - 1], dtype=torch.uint64)):
            assert extract(nn.Linear(6, 3), [(torch.zeros(2, 6), y)]).fine.tolist() == [int(v) for v in y]

    def test_layer_that_the_model_does_not_use(self):
        model = nn.Identity()
        model.spare = nn.Linear(6, 3)
        with pytest.raises(ValueError, match="3 batches and the layer saw 0; the model has no other"):
            extract(model, loader())

    def test_hook_goes_even_when_the_model_fails(self):
        model = network()
        with pytest.raises(RuntimeError):
            extract(model, [(torch.zeros(2, 7), torch.zeros(2))])
        assert not model[3]._forward_pre_hooks


class HeadFirst(nn.Module):
    """A model that registers its head before its body, or whose head is no linear layer."""

    def __init__(self, head):
        super().__init__()
        self.head = head
        self.body = nn.Sequential(nn.Linear(6, 5), nn.Tanh())

    def features(self, x):
        return self.body(x)

    def forward(self, x):
        return self.head(self.features(x))


class Sum(nn.Module):
    def forward(self, x):
        return x.sum(dim=2)


class Wrapped(nn.Module):
    """A model that returns more than logits, as those of other libraries do."""

    def __init__(self, returned):
        super().__init__()
        self.body, self.returned = network(), returned

    def forward(self, x):
        return self.returned(self.body(x))


class TestModelsOfOtherLibraries:
    @pytest.mark.parametrize(
        "model",
        [
            lambda models: models.resnet18(num_classes=4),
            lambda models: models.VisionTransformer(32, 16, 1, 2, 24, 48, num_classes=4),
            lambda models: models.mobilenet_v3_small(num_classes=4),  # with dropout before its last layer
        ],
        ids=["resnet18", "vit", "mobilenet"],
    )
    def test_of_torchvision(self, model):
        torch.manual_seed(0)
        model = model(import_torchvision("torchvision.models")).train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        x, y = torch.randn(6, 3, 32, 32), torch.arange(6) % 4
        f = extract(model, zip(x.split(4), y.split(4), strict=True))
        assert model.training and torch.equal(f.fine, y)
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        # batches of 4 and 2 against one of 6: sums in another order, a few of float32's last digits
        torch.testing.assert_close(f.logits(), model.eval()(x).detach(), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        "returned",
        [lambda logits: (logits, None), lambda logits: {"logits": logits}, lambda logits: None],
        ids=["tuple", "dict", "none"],
    )
    def test_whatever_the_model_returns(self, returned):
        model = Wrapped(returned)
        expected, f = extract(model.body, loader()), extract(model, loader(), layer="body.3")
        assert all(torch.equal(a, b) for a, b in zip(parts(expected), parts(f), strict=True))

    def test_auxiliary_head_that_comes_last_is_not_meant(self):
        model = Wrapped(lambda logits: logits)
        model.auxiliary = nn.Linear(3, 2)
        with pytest.raises(ValueError, match="3 batches and the layer saw 0"):
            extract(model, loader())
        with pytest.raises(
            ValueError, match=r"layer 'auxiliary' was not used.*name one of: body\.0, body\.3$"
        ):
            extract(model, loader())
        assert torch.equal(extract(model, loader(), layer="body.3").h, extract(model.body, loader()).h)

    def test_head_that_is_called_twice_is_refused(self):
        model = network()
        with pytest.raises(ValueError, match=r"inputs of shape \(20, 5\) for 10 labels"):
            extract(nn.Sequential(Twice(model)), loader())
        assert not model[3]._forward_pre_hooks

    def test_compiled_model_that_ran_before(self):
        model = network().eval()
        compiled = torch.compile(model, backend="eager")
        compiled(inputs())
        assert torch.equal(extract(compiled, loader()).h, extract(model, loader()).h)
        assert torch.equal(extract(compiled, loader(), layer="_orig_mod.3").h, extract(model, loader()).h)

    def test_progress_is_the_loaders(self):
        shown = tqdm(loader(), disable=True)
        assert torch.equal(extract(network(), shown).h, extract(network(), loader()).h)

    @pytest.mark.parametrize("seconds, is_shown", [(0, True), (1000, False)])
    def test_progress_is_shown_where_it_takes_long(self, start, seconds, is_shown):
        code = f"""if True:
            import torch
            from nclib.networks import features
            features.SHORT = {seconds}
            model = torch.nn.Linear(3, 2)
            features.extract(model, [(torch.ones(4, 3), torch.zeros(4, dtype=torch.int64))] * 5)"""
        process = start("-c", code, TQDM_DISABLE="")
        _, said = process.communicate()
        assert process.returncode == 0
        assert ("features: 100%" in said and "5/5" in said) == is_shown
        assert is_shown or not said


class Twice(nn.Module):
    """Two views of every image, as contrastive methods take them."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x), self.model(-x)


def precisions() -> list[str]:
    return [attrgetter(name)(torch.backends).fp32_precision for name in OPERATIONS]


@contextmanager
def precision_of(name: str, precision: str) -> Iterator[None]:
    """A precision of an operation, or of all that have none of their own."""
    before = precisions()
    where = attrgetter(name)(torch.backends) if name else torch.backends
    kept, where.fp32_precision = where.fp32_precision, precision
    try:
        yield
    finally:
        where.fp32_precision = kept
        for operation, own in zip(OPERATIONS, before, strict=True):
            attrgetter(operation)(torch.backends).fp32_precision = own


class TestFloat32:
    def test_threads_take_turns(self):
        """Else the one that leaves sets the process back to tf32 while the other is inside."""
        entered = Event()

        def other():
            with exact_float32():
                entered.set()

        thread = Thread(target=other)
        with exact_float32():
            thread.start()
            assert not entered.wait(0.2)
        thread.join(60)
        assert entered.is_set()

    def test_autocast_around_it_changes_nothing(self):
        model = network()
        plain = extract(model, loader())
        with torch.autocast("cpu", torch.bfloat16):
            inside = extract(model, loader())
        assert inside.h.dtype == torch.float32
        assert torch.equal(plain.h, inside.h)

    def test_reduced_matmul_precision_around_it_changes_nothing(self):
        model = network()
        plain = extract(model, loader())
        torch.set_float32_matmul_precision("medium")
        try:
            assert torch.equal(extract(model, loader()).h, plain.h)
            assert torch.get_float32_matmul_precision() == "medium"
        finally:
            torch.set_float32_matmul_precision("highest")

    @pytest.mark.parametrize(
        ("name", "precision"),
        [
            *((name, "tf32") for name in ("", *OPERATIONS)),
            *((name, "bf16") for name in OPERATIONS if name.startswith("mkldnn")),
        ],
    )
    def test_precision_that_is_set_around_it_changes_nothing(self, name, precision):
        if not hasattr(torch.backends, "fp32_precision"):
            pytest.skip("torch sets precision by set_float32_matmul_precision alone")
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 9), nn.Linear(9, 3))
        x, y = torch.randn(64, 8, 8, 8), torch.arange(64) % 3
        plain = extract(model, [(x, y)])
        with precision_of(name, precision):
            around = precisions()
            assert torch.equal(extract(model, [(x, y)]).h, plain.h)
            assert precisions() == around

    def test_what_followed_the_general_setting_still_does(self):
        if not hasattr(torch.backends, "fp32_precision"):
            pytest.skip("torch has no general setting")
        with precision_of("", "tf32"):
            with exact_float32():
                pass
            torch.backends.fp32_precision = "ieee"
            assert set(precisions()) == {"ieee"}

    @pytest.mark.parametrize("older", [False, True])
    def test_every_product_is_exact_meanwhile(self, older):
        if older:
            torch.set_float32_matmul_precision("medium")
        try:
            with exact_float32():
                if hasattr(torch.backends, "fp32_precision"):
                    assert set(precisions()) == {"ieee"}
                assert torch.get_float32_matmul_precision() == "highest"
                assert not torch.backends.cudnn.allow_tf32
        finally:
            torch.set_float32_matmul_precision("highest")

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_features_of_fewer_bits_are_refused(self, dtype):
        model = network()
        inner = Wrapped(lambda logits: logits)
        inner.forward = torch.autocast("cpu", dtype)(inner.forward)
        extract(model, loader())
        for low, batches in ((inner, loader()), (model.to(dtype), [(x.to(dtype), y) for x, y in loader()])):
            with pytest.raises(ValueError, match=rf"sees {dtype}, .* model.float\(\)"):
                extract(low, batches)

    def test_float64_model_gives_float32(self):
        f = extract(network().double(), [(x.double(), y) for x, y in loader()])
        assert f.h.dtype == f.weight.dtype == f.bias.dtype == torch.float32


class TestFeaturesOf:
    def test_batches_do_not_matter(self):
        model = build_model("resnet18", 2, 1, (8, 8), 5).train()
        images = torch.randint(256, (300, 1, 8, 8), dtype=torch.uint8)  # more than one batch
        h = features_of(model, images)
        assert model.training
        with torch.no_grad():
            torch.testing.assert_close(h, model.eval().features(images), rtol=1e-4, atol=1e-5)

    def test_running_statistics_are_not_touched(self):
        model = build_model("resnet18", 2, 1, (8, 8), 5).train()
        before = [t.clone() for t in model.state_dict().values()]
        features_of(model, torch.randint(256, (9, 1, 8, 8), dtype=torch.uint8))
        assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))
