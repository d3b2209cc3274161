"""The optimiser against torch's class, computed another way and in float64."""

import subprocess
import sys

import pytest
import torch

from nclib.training.optimizer import SGD

RATES = (0.1, 0.1, 0.03, 0.0, 0.2)  # of five steps


def parameters():
    """One that is a matrix, one that a loss does not see, one stored in another order."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 3), (5,), (2, 3, 4, 4))
    leaves = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    leaves[2] = leaves[2].to(memory_format=torch.channels_last)
    return [leaf.requires_grad_() for leaf in leaves]


def loss_of(leaves, step):
    matrix, _, image = leaves
    return (matrix**4).sum() + ((image - step) ** 2).sum()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_is_that_of_torch(momentum, decay):
    mine, theirs = parameters(), parameters()
    optimizer = SGD(mine, momentum, decay)
    reference = torch.optim.SGD(theirs, lr=1.0, momentum=momentum, weight_decay=decay, foreach=False)
    for step, lr in enumerate(RATES):
        loss_of(mine, step).mul(0.1).backward()
        optimizer.step(lr)
        reference.param_groups[0]["lr"] = lr
        reference.zero_grad()
        loss_of(theirs, step).mul(0.1).backward()
        reference.step()
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert len(optimizer.buffers) == (2 if momentum else 0)


def test_steps_only_what_has_a_gradient_and_forgets_it():
    leaves = parameters()
    unseen = leaves[1].detach().clone()
    optimizer = SGD(leaves, 0.9, 0.1)
    loss_of(leaves, 0).backward()
    optimizer.step(0.1)
    assert torch.equal(leaves[1], unseen) and leaves[1] not in optimizer.buffers
    assert all(leaf.grad is None for leaf in leaves)


def test_training_does_not_load_the_compiler():
    code = (
        "import sys; from nclib.config import recipe_config; from nclib.training.loop import train;"
        "train(recipe_config('digits', epochs=1, width=8)); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
