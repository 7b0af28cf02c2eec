"""The batch size at which a network answers the most samples a second, found by a short trial."""

from collections.abc import Callable

import torch

USUAL, SMALLEST, LARGEST = 256, 64, 4096
REPEATS = 3  # timed runs of a size, after one that is not; the fastest counts
SHARE = 0.05  # of all samples: what a trial may cost
WORTH_SECONDS = 1.0  # shorter work is done before a trial can pay
GAIN = 1.05  # what another size must give: less is noise


def fastest_batch(seconds: Callable[[int], float], samples: int) -> int:
    """Return the fastest of 64, 128, … 4096 for so many `samples`: from 256 upwards, or else downwards, while it gets
    faster.

    `seconds(n)` does one batch of n samples and says how long it took. 256 where a trial would not pay.
    """
    tried = 0

    def rate(size: int) -> float:
        nonlocal tried
        tried += size * (REPEATS + 1)
        try:
            seconds(size)
            return size / min(seconds(size) for _ in range(REPEATS))
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return 0.0

    def affordable(size: int) -> bool:
        return SMALLEST <= size <= LARGEST and tried + size * (REPEATS + 1) <= SHARE * samples

    if not affordable(USUAL):
        return USUAL
    best, most = USUAL, rate(USUAL)
    if most * WORTH_SECONDS > samples:
        return USUAL
    for factor in (2.0, 0.5):
        while affordable(size := int(best * factor)) and (now := rate(size)) > GAIN * most:
            best, most = size, now
        if best != USUAL:
            break
    return best


def out_of_memory(error: RuntimeError) -> bool:
    """Return whether memory ran out, on the device or (where torch has no class for it) on the CPU."""
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in said or "can't allocate memory" in said
