"""Some training steps in float64, for tests/test_distributed.py: ``parallel_steps.py FOLDER LOSS-ARCH ...``.

What remains of each network and loss goes into FOLDER/LOSS-ARCH.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from nclib.config import recipe_config
from nclib.networks.models import initial_model
from nclib.training import distributed
from nclib.training.batches import Batches
from nclib.training.loop import training_task
from nclib.training.objective import Objective
from nclib.training.optimizer import SGD

STEPS = 5


def main(folder: str, *cases: str) -> None:
    torch.Tensor.float = torch.Tensor.double  # the loss too is then computed in float64
    with distributed.process_group():
        for case in cases:
            loss, _, arch = case.rpartition("-")
            tensors = steps(loss, arch)
            if distributed.leads():
                save_file(tensors, Path(folder) / case)


def steps(loss: str, arch: str) -> dict[str, torch.Tensor]:
    """The network after some steps, and what each of them lost and hit."""
    config = recipe_config("digits", loss=loss, arch=arch, width=8, augment="crop")
    splits, grouping = training_task(config)
    model = initial_model(config, splits.train.images, grouping.num_coarse).double()
    objective = distributed.wrapped(Objective(model, config), unused=loss == "nc").train()
    optimizer = SGD(model.parameters(), config.momentum, config.weight_decay)
    losses = []
    batches = Batches(splits.train, grouping, config, torch.device("cpu")).epoch(1)
    for (images, labels), _ in zip(batches, range(STEPS), strict=False):
        value, hits = objective(images.double() / 255, labels)
        value.backward()
        optimizer.step(config.lr)
        losses.append(torch.stack([value.detach(), hits.double()]))
    return model.state_dict() | {"losses": torch.stack(losses)}


if __name__ == "__main__":
    main(*sys.argv[1:])
