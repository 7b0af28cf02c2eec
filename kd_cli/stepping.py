"""An optimizer's step without the compiler.

torch wraps the methods of its optimizers so that torch.compile keeps out of them, and imports the compiler (1.1 s,
as long as torch itself) at the first call to say so. A training loop that does not compile its optimizer needs neither.
"""

import inspect
from collections.abc import Callable
from functools import partial

import torch
from torch.optim import Optimizer


def keep_compiler_out() -> None:
    """Lets optimizers be built without importing the compiler.

    torch keeps the wrapped method, once the compiler has been told, as an attribute of the method: it is given here.
    """
    for method in vars(Optimizer).values():
        inner = getattr(method, "__wrapped__", None)
        if inner is not None:
            inner.__dict__.setdefault("__dynamo_disable", inner)


def bare_step(optimizer: Optimizer) -> Callable[[], None]:
    """The same arithmetic as `optimizer.step()`, without its wrappers (profiling, hooks, graph breaks)."""
    step = type(optimizer).step
    while (inner := getattr(step, "__wrapped__", None)) is not None:
        step = inner

    def run() -> None:
        with torch.no_grad():
            step(optimizer)

    optimizer._opt_called = True  # type: ignore[attr-defined]  # what a schedule looks at before it warns of a missing step
    return run


def fused(optimizer: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    """The optimizer with torch's fused kernels, where it has them and nothing else was asked for."""
    asked = getattr(optimizer, "keywords", {})
    try:
        known = inspect.signature(optimizer).parameters
    except (TypeError, ValueError):  # arguments that it does not take: calling it says which
        return optimizer
    if "fused" not in known or any(asked.get(key) is not None for key in ("fused", "foreach")):
        return optimizer
    return partial(optimizer, fused=True)


def wants_closure(optimizer: Optimizer) -> bool:
    """Whether a step must be given a function that computes the loss anew, as LBFGS wants it."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty
