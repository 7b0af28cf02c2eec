import math

import numpy as np
import pytest
import torch

from kd_cli.targets.top_k import compress, rebuild

TEMPERATURES = [0.5, 1.0, 4.0, 20.0]
CLASSES = 50


@pytest.fixture
def logits() -> torch.Tensor:
    """Rows from nearly even to very sure of themselves, some with ties, far from zero."""
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (60, CLASSES)) * np.geomspace(0.01, 30, 60)[:, None] + rng.normal(0, 100, (60, 1))
    rows[::7] = rows[::7].round()
    return torch.from_numpy(rows).float()


def soften(logits: torch.Tensor, temperature: float) -> np.ndarray:
    exact = logits.double().numpy()
    powers = np.exp((exact - exact.max(1, keepdims=True)) / temperature)
    return powers / powers.sum(1, keepdims=True)


def read(logits: torch.Tensor, k: int, temperature: float, dtype: torch.dtype) -> tuple[torch.Tensor, np.ndarray]:
    """The rebuilt logits, and which classes were kept."""
    stored = compress(logits, k, TEMPERATURES, dtype)
    rest = stored["rest"][:, TEMPERATURES.index(temperature)]
    kept = np.zeros(logits.shape, bool)
    np.put_along_axis(kept, stored["classes"].long().numpy(), True, 1)
    return rebuild(stored["logits"], stored["classes"], rest, temperature, logits.shape[1]), kept


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("k", [1, 5, CLASSES - 1])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-5), (torch.float16, 2e-3)])
def test_the_rest_has_its_mass_and_the_distance_is_at_most_that_mass(logits, k, temperature, dtype, rounding):
    rebuilt, kept = read(logits, k, temperature, dtype)
    dense, ours = soften(logits, temperature), soften(rebuilt, temperature)
    rest = np.where(kept, 0, dense).sum(1)
    assert np.where(kept, 0, ours).sum(1) == pytest.approx(rest, rel=2e-4, abs=1e-12), "also of rounded logits"
    distance = np.abs(dense - ours).sum(1) / 2
    assert (distance <= rest + rounding).all()
    assert np.abs(dense - ours)[kept].max() <= rounding
    spread = np.where(kept, np.nan, ours)
    assert np.nanmax(spread, 1) == pytest.approx(np.nanmin(spread, 1)), "evenly"


def test_the_rest_weighs_as_much_beside_rounded_logits_as_beside_exact_ones():
    # 1,500 logits that float16 rounds up all alike: beside them as they are, the rest would weigh 0.17 % too much.
    logits = torch.cat([torch.zeros(1), torch.full((1500,), -5.0019), torch.full((500,), -6.0)])[None]
    stored = compress(logits, 1501, [1.0], torch.float16)
    assert float(stored["logits"][0, -1]) == -5
    rebuilt = rebuild(stored["logits"], stored["classes"], stored["rest"][:, 0], 1.0, 2001)
    assert soften(rebuilt, 1.0)[0, 1501:].sum() == pytest.approx(soften(logits, 1.0)[0, 1501:].sum(), rel=1e-5)


def test_the_bound_is_nearly_reached_where_one_class_left_out_weighs_all_of_the_rest():
    logits = torch.tensor([[1.0, 0.999] + [-60.0] * 998])
    rebuilt, kept = read(logits, 1, 1.0, torch.float32)
    distance = np.abs(soften(logits, 1.0) - soften(rebuilt, 1.0)).sum() / 2
    assert distance == pytest.approx(soften(logits, 1.0)[~kept].sum(), rel=2e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_all_classes_kept_are_the_dense_logits(logits, temperature, dtype):
    rebuilt, _ = read(logits, CLASSES, temperature, dtype)
    centred = logits.double() - logits.double().max(1, keepdim=True).values
    assert torch.equal(rebuilt, centred.to(dtype).float())


def test_the_favourite_stays_the_favourite(logits):
    for temperature in TEMPERATURES:
        rebuilt, _ = read(logits, 1, temperature, torch.float16)
        assert torch.equal(rebuilt.max(1).values, logits.gather(1, rebuilt.argmax(1, keepdim=True))[:, 0] * 0)
        assert torch.equal(logits.gather(1, rebuilt.argmax(1, keepdim=True))[:, 0], logits.max(1).values)


def test_what_is_stored_has_its_shapes_types_and_order(logits):
    stored = compress(logits, 5, TEMPERATURES, torch.float16)
    assert {name: (tuple(t.shape), t.dtype) for name, t in stored.items()} == {
        "logits": ((60, 5), torch.float16),
        "classes": ((60, 5), torch.int32),
        "rest": ((60, 4), torch.float32),
    }
    assert (stored["logits"].diff(dim=1) <= 0).all()
    assert (stored["logits"][:, 0] == 0).all()


def test_logits_beyond_float16_and_class_ids_beyond_int16_survive():
    logits = torch.zeros(2, 70_000)
    logits[0, 69_999], logits[1, 40_000], logits[1, 3] = 2e5, 2e5, 1e5
    rebuilt, _ = read(logits, 2, 1.0, torch.float16)
    assert rebuilt.isfinite().all()
    assert rebuilt.argmax(1).tolist() == [69_999, 40_000]
    assert not math.isnan(float(rebuilt.softmax(1).sum()))
