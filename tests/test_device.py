import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kd_cli import device
from kd_cli.device import (
    SMALL_STEP,
    chosen_precision,
    float32_kernels,
    has_convolutions,
    reseed,
    step_flops,
    take_turns,
    threads_for,
)
from kd_cli.models.cnn import cnn
from kd_cli.models.mlp import mlp
from kd_cli.models.resnet import resnet

CPU = torch.device("cpu")
LARGE, SMALL = SMALL_STEP, SMALL_STEP - 1


@pytest.mark.parametrize(("gpus", "turns"), [(1, []), (2, [0, 1, 0, 1, 0]), (4, [0, 1, 2, 3, 0])])
def test_jobs_that_run_at_once_take_the_gpus_in_turn(monkeypatch, gpus, turns):
    taken = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for job in range(5):
        take_turns(job)
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
    device.native_bf16.cache_clear()
    assert device.native_bf16(CPU) is native
    device.native_bf16.cache_clear()


@pytest.mark.parametrize("build", [mlp, cnn, resnet])
def test_the_operations_of_a_step_are_three_forward_passes(build):
    model = build(10, (1, 12, 12)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(4, 1, 12, 12))
    model.load_state_dict(before)
    assert step_flops(model, (1, 12, 12), 4) == 3 * counter.get_total_flops()
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


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
    ("words", "float32", "flops", "inside"),
    [
        ({"AuthenticAMD"}, True, LARGE, "medium"),
        ({"AuthenticAMD"}, True, SMALL, "highest"),
        ({"AuthenticAMD"}, False, LARGE, "highest"),
        ({"GenuineIntel"}, True, LARGE, "highest"),
    ],
)
def test_other_kernels_only_where_they_are_faster_and_compute_in_float32(words, float32, flops, inside, monkeypatch):
    monkeypatch.setattr(device, "_cpu_words", lambda: words)
    monkeypatch.setattr(device, "_medium_is_float32", lambda: float32)
    with float32_kernels(CPU, flops):
        assert torch.get_float32_matmul_precision() == inside
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


def test_convolutions_are_found():
    assert has_convolutions(cnn(10, (1, 8, 8)))
    assert not has_convolutions(mlp(10, (1, 8, 8)))
