import subprocess
import sys
from functools import wraps

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from kd_cli.train.stepping import bare_step, keep_compiler_out

OPTIMIZERS = [
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "fused": True}),
    (torch.optim.AdamW, {"lr": 0.01}),
    (torch.optim.RMSprop, {"lr": 0.01}),
]


def trained(kind, arguments, bare):
    torch.manual_seed(0)
    model = nn.Linear(5, 3)
    optimizer = kind(model.parameters(), **arguments)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
    step = bare_step(optimizer) if bare else optimizer.step
    for _ in range(8):
        optimizer.zero_grad()
        model(torch.randn(4, 5)).square().mean().backward()
        step()
        schedule.step()
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize(("kind", "arguments"), OPTIMIZERS)
def test_a_bare_step_gives_the_bits_of_a_step(kind, arguments):
    assert all(map(torch.equal, trained(kind, arguments, bare=True), trained(kind, arguments, bare=False)))


def test_an_optimizer_of_ones_own_keeps_its_step():
    class Signs(torch.optim.Optimizer):
        def __init__(self, parameters, lr):
            super().__init__(parameters, {"lr": lr})

        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.sub_(p.grad.sign(), alpha=group["lr"])

    weight = nn.Parameter(torch.zeros(2))
    optimizer = Signs([weight], 0.5)
    weight.grad = torch.tensor([2.0, -3.0])
    bare_step(optimizer)()
    assert weight.tolist() == [-0.5, 0.5]


def adopt(optimizer: torch.optim.Optimizer, seen: list[str]) -> None:
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))


def replace(optimizer: torch.optim.Optimizer, seen: list[str]) -> None:
    inner = optimizer.step
    optimizer.step = lambda *given: (seen.append("before"), inner(*given), seen.append("after"))  # type: ignore[method-assign]


@pytest.mark.parametrize("watch", [adopt, replace])
@pytest.mark.parametrize("late", [True, False])
def test_who_wants_to_see_each_step_does(watch, late):
    seen: list[str] = []
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    weight.grad = torch.ones(2)
    if not late:
        watch(optimizer, seen)
    step = bare_step(optimizer)
    step()
    if late:
        watch(optimizer, seen)
    step()
    assert seen == ["before", "after"] * (1 if late else 2)
    assert weight.tolist() == [0.0, 0.0]


def test_hooks_of_all_optimizers_run():
    seen: list[str] = []
    hooks = [
        register_optimizer_step_pre_hook(lambda *_: seen.append("before")),
        register_optimizer_step_post_hook(lambda *_: seen.append("after")),
    ]
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    try:
        bare_step(torch.optim.SGD([weight], lr=0.5))()
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == ["before", "after"]


def test_a_decorator_of_ones_own_around_the_step_stays():
    seen: list[str] = []

    def counted(step):
        @wraps(step)
        def run(self, closure=None):
            seen.append("step")
            return step(self, closure)

        return run

    class Counted(torch.optim.SGD):
        step = counted(torch.optim.SGD.step)

    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    bare_step(Counted([weight], lr=0.5))()
    assert (seen, weight.tolist()) == (["step"], [0.5, 0.5])


def test_training_does_not_import_the_compiler():
    program = """
import sys
from functools import partial
import torch
from kd_cli.datasets.digits import digits
from kd_cli.train.batches import Batches
from kd_cli.train.fit import fit
from kd_cli.train.recipe import Recipe
from kd_cli.models.mlp import mlp
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.train.schedules import cosine

data = digits()
recipe = Recipe(1, 256, partial(torch.optim.SGD, lr=0.1), partial(cosine, warmup=0.1), clip=1.0)
model = mlp(10, (1, 8, 8), [8], dropout=0.5)
fit(model, Batches(data.train, 256, 0, torch.device("cpu")), CrossEntropy(), recipe)
print([name for name in ("torch._dynamo", "torchvision", "sklearn", "scipy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_methods_of_optimizers_still_work_once_the_compiler_is_kept_out():
    keep_compiler_out()
    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(2))], lr=0.5)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": 0.25})
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]
