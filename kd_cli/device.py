"""What the device does best: which precision, which kernels, how many threads."""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch

from kd_cli.errors import must

PRECISIONS: dict[str, torch.dtype | None] = {
    "auto": None,
    "32": None,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}
# Floating-point operations of a step below which neither a second thread, nor bf16, nor oneDNN's kernels gain anything.
SMALL_STEP = 3e8
# Of a processor's instructions those that torch's own name for it leaves out; and a person's limits of what is used.
EXTENSIONS = {"avx512_bf16", "avx512_fp16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_fp16", "bf16", "sve", "sve2"}
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE",
          "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")  # fmt: skip
RESIDENT_SHARE = 0.4  # of a CUDA device's free memory, for a data set and for its targets each


def find_device(device: str) -> torch.device:
    """Return the device of this name; `auto` takes CUDA, then MPS, then the CPU. `cuda:1` becomes the GPU that `cuda`
    is.
    """
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


def take_turns(job: int | None) -> None:
    """Makes `cuda` the GPU whose turn it is, for a job beside others: of two, job 3 takes GPU 1. One without a
    number is alone, as far as it knows.
    """
    if job is not None and (gpus := torch.cuda.device_count()) > 1:
        torch.cuda.set_device(job % gpus)


def chosen_precision(asked: str, device: torch.device, flops: float) -> str:
    """Return the precision for steps of so many floating-point operations. `auto` is bf16-mixed where the device
    computes it natively and a step is large enough to gain from it, otherwise 32; bf16-mixed falls back to 32 where the
    device would have to emulate it.
    """
    if asked not in ("auto", "bf16-mixed"):
        return asked
    small = asked == "auto" and flops < SMALL_STEP
    return "bf16-mixed" if native_bf16(device) and not small else "32"


def native_bf16(device: torch.device) -> bool:
    """Return whether the device has instructions for bf16 products; KD_HIDE_BF16=1 says no, to see what others will."""
    return os.environ.get("KD_HIDE_BF16") != "1" and _has_bf16(device)


@cache
def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bool({"avx512_bf16", "amx_bf16", "bf16"} & _cpu_words())


@cache
def _cpu_words() -> set[str]:
    """Vendor and features of the processor, as Linux names them; nothing elsewhere."""
    return set(re.findall(r"\w+", _cpu_info()))


def _cpu_info() -> str:
    """What Linux says of the first core; nothing elsewhere."""
    info = Path("/proc/cpuinfo")
    return info.read_text("utf-8", "replace").partition("\n\n")[0] if info.is_file() else ""


def device_name(device: torch.device) -> str:
    """Return what the GPU or the processor calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    said = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)", _cpu_info(), re.MULTILINE)
    return said[1].strip() if said else platform.processor() or platform.machine()


def instructions(device: torch.device) -> str:
    """Return what the kernels of this device choose by: other instructions give other last bits."""
    if device.type != "cpu":
        return ".".join(map(str, torch.cuda.get_device_capability(device))) if device.type == "cuda" else ""
    extensions = sorted(_cpu_words() & EXTENSIONS)
    limits = [f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ]
    return " ".join([torch.backends.cpu.get_cpu_capability(), *extensions, *limits])


def hardware(threads: int) -> str:
    """Return what a figure was measured on, in one line: processor, its instructions, threads and versions."""
    cpu = torch.device("cpu")
    used = f"{instructions(cpu)}, {'bf16' if native_bf16(cpu) else 'no bf16'}"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{device_name(cpu)} ({used}), {threads} thread(s), {versions}"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return where the forward pass computes in half precision; weights, loss and softmax stay float32."""
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


@contextmanager
def float32_kernels(device: torch.device, flops: float) -> Iterator[str]:
    """The faster kernels for the float32 matrix products of a step of so many operations, and whose they are. On AMD's
    processors those are oneDNN's, which torch takes at precision "medium", and not MKL's: but for small matrices, and
    only where they do compute in float32 (with AMX they would not).
    """
    before = torch.get_float32_matmul_precision()
    small = flops < SMALL_STEP
    faster = device.type == "cpu" and not small and "AuthenticAMD" in _cpu_words() and _medium_is_float32()
    if faster:
        torch.set_float32_matmul_precision("medium")
    try:
        yield "oneDNN" if faster else "BLAS"
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
    """Return whether data of so many bytes may stay on the device, beside what training needs there."""
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


def reseed(device: torch.device, seed: int) -> None:
    """Seeds what dropout draws from. `torch.manual_seed` would look at every kind of device, at 0.1 ms a call."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        getattr(torch, device.type).manual_seed(seed)
