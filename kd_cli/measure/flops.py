"""What a network computes, seen where torch dispatches it: the same for layers, functions, attention and einsum.

torch's own counter sees neither attention on a CPU, nor recurrent layers, nor the fused encoder, and imports triton.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from kd_cli.data.inputs import Inputs
from kd_cli.data.spec import Spec
from kd_cli.measure.foreign import is_foreign


@dataclass(frozen=True)
class Convolution:
    """A convolution's input channels, how many of them each filter reads, the sizes of its kernel, and its strides."""

    channels: int
    reads: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Work:
    """What a network computes for one sample: floating-point operations of its products, a multiply-add counted as two,
    infinite where they are unknown; and its convolutions, in order.
    """

    flops: float
    convolutions: tuple[Convolution, ...] = ()

    def of_step(self, batch_size: int) -> float:
        """Return the floating-point operations of a training step: each product is made once forward and twice
        backward.
        """
        return 3 * self.flops * batch_size


def work_of(model: nn.Module, spec: Spec) -> Work:
    """Return what `model` computes for a blank sample, in eval mode."""
    return work_on(model, spec.blank(1, next(model.parameters(), torch.empty(0)).device))


@torch.no_grad()
def work_on(model: nn.Module, inputs: Inputs) -> Work:
    """Return what `model` computes for these inputs, in eval mode; unknown if that fails."""
    if is_foreign(model):
        return Work(math.inf)
    training, fused = model.training, torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation that holds several products
    try:
        with _Counter() as seen:
            model.eval()(inputs)
    except Exception:  # a network may be anybody's, and not bear to be watched
        return Work(math.inf)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        model.train(training)
    return Work(seen.flops, tuple(seen.convolutions))


class _Counter(TorchDispatchMode):
    """Adds up what is dispatched while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0.0
        self.convolutions: list[Convolution] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: torch would import its compiler to keep it out of here, which takes two seconds."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        space, _, name = func._schema.name.rstrip("_").partition("::")
        multiply_adds = FORMULAS.get(name) if space == "aten" else None
        if multiply_adds is None:
            with self:  # an operation made of others comes whole where no gradient could ever be wanted
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        if multiply_adds is not None:
            self.flops += 2 * multiply_adds(*args)
        elif space not in TORCHS or (name not in CHEAP and any(map(HEAVY.fullmatch, name.split("_")))):
            self.flops = math.inf
        if name in CONVOLUTIONS:
            self.convolutions.append(_convolution(*args))
        return func(*args, **kwargs)


def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int], dilation: list[int],
    transposed: bool, output_padding: list[int], groups: int, *rest: Any,
) -> Convolution:  # fmt: skip
    reads = weight.shape[0] // groups if transposed else weight.shape[1]
    return Convolution(x.shape[1], reads, tuple(weight.shape[2:]), tuple(_each(stride, x)))


def _convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int], dilation: list[int],
    transposed: bool, *rest: Any,
) -> int:  # fmt: skip
    """Return the operations of a convolution: each position of the output takes a whole filter; of a transposed
    convolution, each of the input.
    """
    positions = list(x.shape[2:])
    if not transposed:
        sizes = zip(positions, weight.shape[2:], *(_each(of, x) for of in (stride, padding, dilation)), strict=True)
        positions = [(size + 2 * pad - apart * (k - 1) - 1) // step + 1 for size, k, step, pad, apart in sizes]
    return x.shape[0] * math.prod(positions) * weight.numel()


def _each(numbers: list[int], x: Tensor) -> list[int]:
    """Return a number for each dimension of an image; one may stand for all."""
    return list(numbers) * (x.ndim - 2) if len(numbers) == 1 else list(numbers)


def _product(a: Tensor, b: Tensor, *rest: Any) -> int:
    """Return the operations of a product of matrices, batches of them, or vectors."""
    return a.numel() * (b.shape[-1] if b.ndim > 1 else 1)


def _added(c: Tensor, a: Tensor, b: Tensor, *rest: Any) -> int:
    return _product(a, b)


def _attention(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> int:
    """Return the operations of attention of `[…, n, d]`, `[…, m, d]` and `[…, m, e]`: n·m scores, and as many weights
    of the values.
    """
    return query.numel() // query.shape[-1] * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _recurrent(x: Tensor, *given: Any) -> int:
    """Return the operations of a recurrent network: each row of `x` meets each matrix of the layers: a list of them, or
    two of one layer.
    """
    weights = given[0] if isinstance(given[0], list | tuple) else given[:2]
    numbers: int = sum(weight.numel() for weight in weights if weight.ndim == 2)
    return x.numel() // x.shape[-1] * numbers


def _bilinear(x: Tensor, weight: Tensor, *rest: Any) -> int:
    return x.numel() // x.shape[-1] * weight.numel()


CONVOLUTIONS = ("convolution", "_convolution")
ATTENTION = ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention",
             "fused_attention_overrideable", "attention_math_for_mps")  # fmt: skip
FORMULAS: dict[str, Callable[..., int]] = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot", "_int_mm", "_scaled_mm"), _product),
    **dict.fromkeys(("addmm", "addmv", "addbmm", "baddbmm", "_addmm_activation"), _added),
    **dict.fromkeys(CONVOLUTIONS, _convolved),
    **dict.fromkeys((f"_scaled_dot_product_{kind}" for kind in ATTENTION), _attention),
    **dict.fromkeys(("mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn"), _recurrent),
    "_trilinear": _bilinear,
}
# Words in the names of other operations that hold products.
HEAVY = re.compile(r"\w*mm|\w*matmul|attention|cdist|conv(?!ert)\w*|fft|fwd|linalg|linear|rnn")
CHEAP = ("linalg_vector_norm",)
TORCHS = ("aten", "prim", "prims")  # namespaces; what is computed in others is unknown
