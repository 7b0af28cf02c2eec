"""An optimizer's step without the compiler.

torch wraps the methods of its optimizers so that torch.compile keeps out of them, and imports the compiler (1.1 s,
as long as torch itself) at the first call to say so. A training loop that does not compile its optimizer needs neither.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

TORCHS_OWN = ("torch.optim.optimizer", "torch.optim.lr_scheduler", "torch._compile")


def keep_compiler_out() -> None:
    """Let optimizers be built without importing the compiler.

    torch keeps the wrapped method, once the compiler has been told, as an attribute of the method: it is given here.
    """
    for method in vars(Optimizer).values():
        inner = getattr(method, "__wrapped__", None)
        if inner is not None:
            inner.__dict__.setdefault("__dynamo_disable", inner)


def bare_step(optimizer: Optimizer) -> Callable[[], None]:
    """Return a function that does what `optimizer.step()` does, without torch's wrappers (profiling, graph breaks)
    where nothing depends on them: an optimizer with hooks, or whose own object or decorator replaces its step, takes
    the ordinary one.
    """
    step, own = _unwrapped(type(optimizer).step), vars(optimizer).get("step")
    plain = own is None or _unwrapped(getattr(own, "__func__", own)) is step  # a schedule wraps the object's

    def run() -> None:
        if not plain or vars(optimizer).get("step") is not own or any(_hooks(optimizer)):
            optimizer.step()
            return
        with torch.no_grad():
            step(optimizer)

    optimizer._opt_called = True  # type: ignore[attr-defined]  # what a schedule looks at before it warns of a missing step
    return run


def fused(optimizer: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    """Return the optimizer with torch's fused kernels, where it has them and nothing else was asked for."""
    asked = getattr(optimizer, "keywords", {})
    try:
        known = inspect.signature(optimizer).parameters
    except (TypeError, ValueError):  # arguments that it does not take: calling it says which
        return optimizer
    if "fused" not in known or any(asked.get(key) is not None for key in ("fused", "foreach")):
        return optimizer
    return partial(optimizer, fused=True)


def wants_closure(optimizer: Optimizer) -> bool:
    """Return whether a step must be given a function that computes the loss anew, as LBFGS wants it."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _unwrapped(step: Any) -> Any:
    """Return a step without the wrappers that torch puts around every optimizer's; anybody else's stay."""
    while (inner := getattr(step, "__wrapped__", None)) is not None and step.__globals__.get("__name__") in TORCHS_OWN:
        step = inner
    return step


def _hooks(optimizer: Optimizer) -> Iterator[Any]:
    """Yield what is to be called before and after each step: of this optimizer, and of all."""
    yield optimizer._optimizer_step_pre_hooks
    yield optimizer._optimizer_step_post_hooks
    yield _global_optimizer_pre_hooks
    yield _global_optimizer_post_hooks
