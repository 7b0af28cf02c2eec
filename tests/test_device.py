import platform

import pytest
import torch
from torch import nn

from kd_cli import device
from kd_cli.device import (
    SMALL_STEP,
    chosen_precision,
    float32_kernels,
    reseed,
    take_turns,
    threads_for,
)

CPU = torch.device("cpu")
LARGE, SMALL = SMALL_STEP, SMALL_STEP - 1


@pytest.mark.parametrize(("gpus", "turns"), [(1, []), (2, [0, 1, 0, 1, 0]), (4, [0, 1, 2, 3, 0])])
def test_jobs_that_run_at_once_take_the_gpus_in_turn(monkeypatch, gpus, turns):
    taken = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for job in range(5):
        take_turns(job)
    take_turns(None)  # a launcher that does not count its jobs
    assert taken == turns


@pytest.mark.parametrize(
    ("asked", "native", "flops", "chosen"),
    [
        ("auto", True, LARGE, "bf16-mixed"),
        ("auto", True, SMALL, "32"),
        ("auto", False, LARGE, "32"),
        ("bf16-mixed", True, SMALL, "bf16-mixed"),
        ("bf16-mixed", False, LARGE, "32"),
        ("32", True, LARGE, "32"),
        ("16-mixed", False, LARGE, "16-mixed"),
    ],
)
def test_the_precision_is_what_the_device_has(asked, native, flops, chosen, monkeypatch):
    monkeypatch.setattr(device, "native_bf16", lambda device: native)
    assert chosen_precision(asked, CPU, flops) == chosen


@pytest.mark.parametrize(
    ("words", "native"),
    [({"avx512_bf16"}, True), ({"amx_bf16"}, True), ({"Features", "bf16"}, True), ({"avx512f", "avx2"}, False)],
)
def test_bf16_is_native_where_the_processor_lists_it(words, native, monkeypatch):
    monkeypatch.setattr(device, "_cpu_words", lambda: words)
    monkeypatch.delenv("KD_HIDE_BF16", raising=False)
    device._has_bf16.cache_clear()
    assert device.native_bf16(CPU) is native
    monkeypatch.setenv("KD_HIDE_BF16", "1")
    assert not device.native_bf16(CPU)
    device._has_bf16.cache_clear()


@pytest.mark.parametrize(
    ("info", "name"),
    [
        ("vendor_id : AuthenticAMD\nmodel name\t: AMD EPYC 7B13\nflags : avx2", "AMD EPYC 7B13"),
        ("processor : 0\nModel\t\t: Raspberry Pi 4", "Raspberry Pi 4"),
        ("", platform.processor() or platform.machine()),
    ],
)
def test_the_processor_is_called_what_it_calls_itself(info, name, monkeypatch):
    monkeypatch.setattr(device, "_cpu_info", lambda: info)
    assert device.device_name(CPU) == name


def test_the_instructions_are_those_of_torch_and_what_a_person_leaves_of_them(monkeypatch):
    for name in device.LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(device, "_cpu_words", lambda: {"avx2", "avx512_bf16", "fpu"})
    capability = torch.backends.cpu.get_cpu_capability()
    assert device.instructions(CPU) == f"{capability} avx512_bf16"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert device.instructions(CPU) == f"{capability} avx512_bf16 ONEDNN_MAX_CPU_ISA=AVX2"


def test_a_small_step_runs_on_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads_for(SMALL):
            assert torch.get_num_threads() == 1
        with threads_for(LARGE):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("words", "float32", "flops", "inside", "whose"),
    [
        ({"AuthenticAMD"}, True, LARGE, "medium", "oneDNN"),
        ({"AuthenticAMD"}, True, SMALL, "highest", "BLAS"),
        ({"AuthenticAMD"}, False, LARGE, "highest", "BLAS"),
        ({"GenuineIntel"}, True, LARGE, "highest", "BLAS"),
    ],
)
def test_other_kernels_only_where_they_are_faster_and_compute_in_float32(
    words, float32, flops, inside, whose, monkeypatch
):
    monkeypatch.setattr(device, "_cpu_words", lambda: words)
    monkeypatch.setattr(device, "_medium_is_float32", lambda: float32)
    with float32_kernels(CPU, flops) as kernels:
        assert (torch.get_float32_matmul_precision(), kernels) == (inside, whose)
    assert torch.get_float32_matmul_precision() == "highest"


def test_whatever_kernels_are_chosen_here_have_the_error_of_float32():
    a, b = torch.randn(128, 784), torch.randn(784, 800)
    with float32_kernels(CPU, LARGE):
        error = (a @ b - a.double() @ b.double()).norm() / (a.double() @ b.double()).norm()
    assert error < 1e-6


def test_reseeding_draws_what_torch_draws():
    torch.manual_seed(123)
    expected = nn.functional.dropout(torch.ones(1000))
    reseed(CPU, 123)
    assert torch.equal(nn.functional.dropout(torch.ones(1000)), expected)
