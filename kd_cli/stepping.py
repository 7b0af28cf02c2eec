"""An optimizer's step without the compiler.

torch wraps the methods of its optimizers so that torch.compile keeps out of them, and imports the compiler (1.1 s,
as long as torch itself) at the first call to say so. A training loop that does not compile its optimizer needs neither.
"""

from collections.abc import Callable

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
