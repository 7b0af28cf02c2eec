import pytest
import torch

from kd_cli.targets.batch_size import fastest_batch, out_of_memory

MANY = 10**7


class Machine:
    """Answers `rates[n]` images a second in batches of n, and has no memory for sizes that it does not name."""

    def __init__(self, rates: dict[int, float]) -> None:
        self.rates, self.asked = rates, []

    def __call__(self, size: int) -> float:
        self.asked.append(size)
        if size not in self.rates:
            raise torch.OutOfMemoryError("out of memory")
        return size / self.rates[size]


@pytest.mark.parametrize(
    ("rates", "best"),
    [
        ({128: 90, 256: 100, 512: 200, 1024: 300, 2048: 290}, 1024),
        ({64: 300, 128: 200, 256: 100, 512: 90}, 64),
        ({128: 100, 256: 100, 512: 104}, 256),
        ({64: 10, 128: 50, 256: 100, 512: 200}, 512),
        ({64: 10, 128: 50}, 128),
        ({2**k: 2.0**k for k in range(5, 16)}, 4096),
        ({2**k: 2.0**-k for k in range(5, 16)}, 64),
    ],
    ids=["larger", "smaller", "noise", "memory ends", "no memory for the usual", "largest", "smallest"],
)
def test_the_fastest_size_that_fits_is_found(rates, best):
    assert fastest_batch(Machine(rates), MANY) == best


def test_a_trial_costs_at_most_a_twentieth_of_the_images():
    for images in (20_480, 60_000, 200_000, MANY):
        machine = Machine({2**k: 2.0**k / 1000 for k in range(5, 16)})
        fastest_batch(machine, images)
        assert 0 < sum(machine.asked) <= images / 20


def test_a_second_of_work_is_not_tried_out():
    machine = Machine({256: 1e6, 512: 2e6})
    assert fastest_batch(machine, 500_000) == 256
    assert set(machine.asked) == {256}
    assert fastest_batch(machine, 1198) == 256
    assert set(machine.asked) == {256}


def test_other_errors_than_memory_come_through():
    def broken(size: int) -> float:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        fastest_batch(broken, MANY)


def test_memory_that_ran_out_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as refusal:
        torch.empty(10**15)
    assert out_of_memory(refusal.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not out_of_memory(RuntimeError("shapes cannot be multiplied"))
