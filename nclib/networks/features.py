"""Last-layer features, always in float32.

    f = extract(model, loader)         # any torch.nn.Module with a linear layer at its end

The fine structure is about a thousandth of the coarse one: bf16, fp16 and tf32 erase it. Extraction
therefore switches autocast and tf32 off, whatever the model was trained in.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from threading import RLock
from typing import NoReturn

import torch
from torch import Tensor, nn
from tqdm import tqdm

from nclib.networks.models import Classifier

BATCH = {"cpu": 250, "cuda": 2000}  # images per forward pass: the fastest seen on each
SHORT = 1  # seconds that extraction takes without a progress bar
OPERATIONS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")
TURN = RLock()


@dataclass(frozen=True)
class FeatureSet:
    """Features of one split, and the head that reads them; all on the CPU.

    Attributes
    ----------
    h : (N, D) float32, input of the last linear layer.
    fine : (N,) int64 fine labels.
    coarse : (N,) int64 labels the network was trained on.
    weight, bias : (C, D) and (C,) float32, the last linear layer.
    """

    h: Tensor
    fine: Tensor
    coarse: Tensor
    weight: Tensor
    bias: Tensor

    def logits(self) -> Tensor:
        """(N, C) float32."""
        return self.h @ self.weight.T + self.bias


def feature_tensors(features: Mapping[str, FeatureSet]) -> dict[str, Tensor]:
    """Features and fine labels of splits, by name, as a run's files hold them."""
    return {f"{split}/{part}": getattr(f, part) for split, f in features.items() for part in ("h", "fine")}


def features_of(model: Classifier, images: Tensor) -> Tensor:
    """Features of uint8 images. (N, C, H, W) -> (N, D) float32 on the CPU; the model stays in its mode."""
    device = next(model.parameters()).device
    with evaluating(model), exact_float32():
        batches = (_channels_last(batch.to(device)) for batch in images.split(BATCH.get(device.type, 250)))
        return torch.cat([model.features(batch).float() for batch in batches]).cpu()


def extract(
    model: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], layer: str | None = None
) -> FeatureSet:
    """Features of any network: the input of one of its linear layers.

    Parameters
    ----------
    model : network that maps a batch of inputs to logits.
    loader : batches (inputs, labels), a tensor and (B,) integers. What takes longer than a second shows a
        progress bar, unless the loader is one (tqdm) or ``TQDM_DISABLE=1`` is set.
    layer : name of the linear layer, any that the model has for it; by default the one that the model
        registers last. Then the model's output, or one part of a tuple or mapping, must have a number for
        each of that layer's outputs and be largest where the layer's is. Name the layer where the head is
        registered before other layers, is no ``torch.nn.Linear``, or is followed by sums over classes.

    Returns
    -------
    FeatureSet : both label levels are the loader's labels. It shares no memory with the model, with the
    loader's batches or between its parts, so that training on does not change it.

    Raises
    ------
    TypeError : a model that is no module, a batch that is not (images, labels), labels that are no numbers.
    ValueError : no such layer, a layer that is not linear or not used, a model of which no layer was named
        and whose output is not that of the last one, as where two heads are averaged; no batches, features
        that are not of rank 2 or not finite or neither float32 nor float64, labels that are not one integer
        a sample in every batch.

    Notes
    -----
    An output without a tensor that has one row a sample is not compared, such as that of a data class.

    Every module is in evaluation mode meanwhile, and afterwards in the mode that it was in. Modes are set
    directly: a module that acts on ``train()`` or ``eval()`` does not notice.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    if isinstance(model, nn.DataParallel):
        model = model.module  # its copies would see parts of a batch in any order
    linear = _linear_layers(model)
    name, head = _chosen(model, linear, layer)
    device = next(model.parameters()).device
    inputs: list[Tensor] = []
    labels: list[Tensor] = []
    seen: list[int] = []  # inputs of the layer after each batch
    outputs: list[Tensor] = []  # of the layer, for one batch

    def keep(_module: nn.Module, args: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
        (h,) = (*args, *named.values())  # a linear layer takes one, by place or by name
        if h.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"the layer sees {h.dtype}, which is too coarse to measure: give extract a float32 model, as "
                "model.float() makes it, whose forward does not switch autocast on"
            )
        inputs.append(_float32(h))

    def keep_output(_module: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append(output.clone())  # the model may go on to change it in place

    hooks = [head.register_forward_pre_hook(keep, with_kwargs=True)]
    if layer is None:
        hooks.append(head.register_forward_hook(keep_output))
    try:
        with evaluating(model), exact_float32(), _as_written():
            for x, y in map(_images_and_labels, _with_progress(loader)):
                outputs.clear()
                output = model(x.to(device))
                if len(outputs) == 1:
                    _refuse_other_output(output, outputs[0], name, linear)
                labels.append(_batch_labels(y))
                seen.append(len(inputs))
            # before modules are in their modes again: in training, a parametrisation may change what it gives
            weight = _float32(head.weight)
            bias = torch.zeros(head.out_features) if head.bias is None else _float32(head.bias)
    finally:
        for hook in hooks:
            hook.remove()
    if not labels:
        raise ValueError(
            "the loader gave 0 batches; an iterator can be read only once: give a list or a DataLoader"
        )
    if not inputs:
        _refuse_unused(name, [other for other in linear if linear[other] is not head], len(labels))
    h, fine = torch.cat(inputs), torch.cat(labels)
    if h.ndim != 2 or len(h) != len(fine):
        raise ValueError(
            f"the layer sees inputs of shape {tuple(h.shape)} for {len(fine)} labels; name a layer that sees "
            "(samples, features)"
        )
    for batch, (first, last, y) in enumerate(zip([0, *seen], seen, labels, strict=False)):
        if (rows := sum(map(len, inputs[first:last]))) != len(y):
            raise ValueError(f"batch {batch} has {len(y)} labels, and the layer saw {rows} rows of it")
    if len(bad := (~torch.isfinite(h)).any(dim=1).nonzero()):
        raise ValueError(f"features must be finite; row {int(bad[0])} is the first that is not")
    return FeatureSet(h, fine, fine.clone(), weight, bias)


def _with_progress(loader: Iterable[tuple[Tensor, Tensor]]) -> Iterable[tuple[Tensor, Tensor]]:
    return loader if isinstance(loader, tqdm) else tqdm(loader, desc="features", unit="batch", delay=SHORT)


def _images_and_labels(batch: object) -> tuple[Tensor, object]:
    """The two parts of a batch."""
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and isinstance(batch[0], Tensor):
        return batch[0], batch[1]
    if isinstance(batch, Mapping):
        got = f"a mapping with keys {', '.join(map(repr, batch))}"
    elif isinstance(batch, (tuple, list)):
        got = f"({', '.join(type(part).__name__ for part in batch)})"
    else:
        got = type(batch).__name__
    raise TypeError(
        f"a batch must be (images, labels), images a tensor; got {got}. Give extract pairs, for example "
        "((batch['image'], batch['label']) for batch in loader)"
    )


def _refuse_other_output(output: object, logits: Tensor, name: str, linear: Iterable[str]) -> None:
    """Raise ValueError if a model's output cannot be that of its last linear layer, or what keeps its order.

    Of a tuple or mapping one part has to be. Parts that do not have a row a sample are not compared.
    """
    if logits.ndim != 2 or not len(logits):
        return  # such features are refused later
    if isinstance(output, Mapping):
        parts = list(output.values())
    else:
        parts = list(output) if isinstance(output, (tuple, list)) else [output]
    rows = [part for part in parts if isinstance(part, Tensor) and part.shape[:1] == logits.shape[:1]]
    if rows and not any(_same_order(part.reshape(len(logits), -1), logits) for part in rows):
        raise ValueError(
            f"the model's output is not that of its last linear layer, {name!r}, as where its head stands "
            "before other layers or is no torch.nn.Linear, or where it averages two heads: name the layer "
            f"whose inputs are to be measured, layer=...; it has: {', '.join(linear)}"
        )


def _same_order(said: Tensor, logits: Tensor) -> bool:
    """Whether rows of one width are largest where the logits are."""
    if said.shape != logits.shape:
        return False
    at = said.gather(1, logits.argmax(dim=1, keepdim=True))
    return not (at < said.amax(dim=1, keepdim=True)).any()


def _refuse_unused(name: str, others: list[str], batches: int) -> NoReturn:
    """Raise the ValueError for a linear layer that no batch came to."""
    remedy = f"name one of: {', '.join(others)}" if others else "the model has no other torch.nn.Linear"
    raise ValueError(
        f"layer {name!r} was not used: the loader gave {batches} batches and the layer saw 0; {remedy}"
    )


def _float32(values: Tensor) -> Tensor:
    """A copy on the CPU, without gradient."""
    return values.detach().to("cpu", torch.float32, copy=True)


def _batch_labels(y: Tensor) -> Tensor:
    """A copy of the labels (B,) of a batch, int64 on the CPU."""
    try:
        y = torch.as_tensor(y).detach()
    except (RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"labels of a batch must be (B,) integers: {error}") from error
    if y.ndim != 1 or y.is_complex() or (y.is_floating_point() and (y.double() % 1 != 0).any()):
        raise ValueError(f"labels of a batch must be (B,) integers; got {y.dtype} {tuple(y.shape)}")
    labels = y.to("cpu", torch.int64, copy=True)
    if y.is_floating_point() and (y.double().abs() > 2**53).any():  # float64 skips integers beyond
        raise ValueError("labels of a batch that are floats must be within 2**53; give integers")
    if y.dtype == torch.uint64 and (labels < 0).any():  # there int64 begins anew
        raise ValueError("labels of a batch must be below 2**63")
    return labels


def _linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """All linear layers by name, in the order in which the model registers them; one at least."""
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if not linear:
        raise ValueError(
            "the model has no torch.nn.Linear layer, whose inputs extract measures: let its head be one, or "
            "keep features with a hook of your own and give them to the measures"
        )
    return linear


def _chosen(model: nn.Module, linear: Mapping[str, nn.Linear], layer: str | None) -> tuple[str, nn.Linear]:
    """The name and the layer that was asked for, by default the last one."""
    if layer is None:
        return list(linear.items())[-1]
    named = dict(model.named_modules(remove_duplicate=False)).get(layer)
    if not isinstance(named, nn.Linear):
        raise ValueError(f"no linear layer {layer!r}; the model has: {', '.join(linear)}")
    return layer, named


def _as_written() -> AbstractContextManager:
    """Compiled models run as they were written: what was compiled before knows nothing of a new hook."""
    if "torch._dynamo" not in sys.modules:  # nothing was compiled; importing it takes seconds
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own mode is restored, frozen ones among others."""
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def exact_float32() -> Iterator[None]:
    """Full float32 products: no tf32 on CUDA, no tf32 or bf16 in oneDNN, no autocast.

    Settings are those of the process, so that one thread at a time may be inside.
    """
    with TURN, _exact_settings():
        yield


@contextmanager
def _exact_settings() -> Iterator[None]:
    operations = [op for op in map(_operation, OPERATIONS) if hasattr(op, "fp32_precision")]
    saved = [op.fp32_precision for op in operations]
    older = _older_precision()
    _set_older_precision(older and ("highest", False))
    for op in operations:
        op.fp32_precision = "ieee"
    try:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        _set_older_precision(older)
        for op, precision in zip(operations, saved, strict=True):
            op.fp32_precision = "none"  # as torch.backends says, also when that is changed later
            if op.fp32_precision != precision:
                op.fp32_precision = precision


def _operation(name: str) -> object:
    """An operation of a backend that has a precision of its own; None before torch 2.9."""
    backend, operation = name.split(".")
    return getattr(getattr(torch.backends, backend), operation, None)


def _older_precision() -> tuple[str, bool] | None:
    """What torch's older interface says; None where the newer was used, for then it may not be asked."""
    try:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return None


def _set_older_precision(precision: tuple[str, bool] | None) -> None:
    if precision is not None:
        torch.set_float32_matmul_precision(precision[0])
        torch.backends.cudnn.allow_tf32 = precision[1]


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
