"""What the device does best: which precision, which kernels, how many threads."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd_cli.errors import must

PRECISIONS: dict[str, torch.dtype | None] = {
    "auto": None,
    "32": None,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}
# Floating-point operations of a step below which neither a second thread, nor bf16, nor oneDNN's kernels gain anything.
SMALL_STEP = 3e8
RESIDENT_SHARE = 0.4  # of a CUDA device's free memory, for a data set and for its targets each


def find_device(device: str) -> torch.device:
    """The device of this name; `auto` takes CUDA, then MPS, then the CPU. `cuda:1` becomes the GPU that `cuda` is."""
    kind, _, number = device.partition(":")
    if number:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number) >= count:
            there = ", ".join(["auto", "cpu", *(f"cuda:{k}" for k in range(count))])
            raise must("device", f"one that this machine has ({there})", device)
        torch.cuda.set_device(int(number))
        device = kind
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    if not available[device]:
        there = ", ".join(name for name, yes in available.items() if yes)
        raise must("device", f"one that this machine has (auto, {there})", device)
    return torch.device(device)


def take_turns(job: int) -> None:
    """Makes `cuda` the GPU whose turn it is, for a job beside others: of two, job 3 takes GPU 1."""
    if (gpus := torch.cuda.device_count()) > 1:
        torch.cuda.set_device(job % gpus)


def chosen_precision(asked: str, device: torch.device, flops: float) -> str:
    """The precision for steps of so many floating-point operations. `auto` is bf16-mixed where the device computes it
    natively and a step is large enough to gain from it, otherwise 32; bf16-mixed falls back to 32 where the device
    would have to emulate it.
    """
    if asked not in ("auto", "bf16-mixed"):
        return asked
    small = asked == "auto" and flops < SMALL_STEP
    return "bf16-mixed" if native_bf16(device) and not small else "32"


@cache
def native_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16 products."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bool({"avx512_bf16", "amx_bf16", "bf16"} & _cpu_words())


@cache
def _cpu_words() -> set[str]:
    """Vendor and features of the processor, as Linux names them; nothing elsewhere."""
    info = Path("/proc/cpuinfo")
    return set(re.findall(r"\w+", info.read_text("utf-8", "replace").partition("\n\n")[0])) if info.is_file() else set()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Where the forward pass computes in half precision; weights, loss and softmax stay float32."""
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


@contextmanager
def float32_kernels(device: torch.device, flops: float) -> Iterator[None]:
    """The faster kernels for the float32 matrix products of a step of so many operations. On AMD's processors those are
    oneDNN's, which torch takes at precision "medium", and not MKL's: but for small matrices, and only where they do
    compute in float32 (with AMX they would not).
    """
    before = torch.get_float32_matmul_precision()
    small = flops < SMALL_STEP
    if device.type == "cpu" and not small and "AuthenticAMD" in _cpu_words() and _medium_is_float32():
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@cache
def _medium_is_float32() -> bool:
    """Whether a product at precision "medium" has float32's error here: 1e-7, where that of bf16 is 1e-3."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        exact = a.double() @ b.double()
        return bool((a @ b - exact).norm() < 1e-5 * exact.norm())
    finally:
        torch.set_float32_matmul_precision(before)


def fits(device: torch.device, size: int) -> bool:
    """Whether data of so many bytes may stay on the device, beside what training needs there."""
    return device.type != "cuda" or size <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]


@contextmanager
def threads_for(flops: float) -> Iterator[None]:
    """One thread for a step that is too small to share; otherwise all there are."""
    threads = torch.get_num_threads()
    if flops < SMALL_STEP:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def step_flops(model: nn.Module, input_shape: tuple[int, ...], batch_size: int) -> float:
    """Floating-point operations of a training step, counted in its convolutions and linear layers: each product is made
    once forward and twice backward. (torch's own counter takes 0.3 s to import.)
    """
    products = 0

    def count(module: nn.Module, inputs: object, output: Tensor) -> None:
        nonlocal products
        products += output.numel() * module.weight[0].numel()  # type: ignore[index]

    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    training = model.training
    first = next(model.parameters(), torch.empty(0))
    try:
        model.eval()(torch.zeros(1, *input_shape, device=first.device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return 3 * 2 * products * batch_size


def has_convolutions(model: nn.Module) -> bool:
    """Whether the channels-last layout serves this network."""
    return any(isinstance(module, nn.Conv2d) for module in model.modules())


def reseed(device: torch.device, seed: int) -> None:
    """Seeds what dropout draws from. `torch.manual_seed` would look at every kind of device, at 0.1 ms a call."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        getattr(torch, device.type).manual_seed(seed)
