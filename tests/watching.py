"""A `Watch` out of two functions."""

from collections.abc import Callable


class Seen:
    """Hands each step and each epoch of a training on to a function of the test's."""

    def __init__(
        self,
        step: Callable[[int, int], object] = lambda epoch, step: None,
        epoch: Callable[[dict[str, float]], object] = lambda record: None,
    ) -> None:
        self.step, self.epoch = step, epoch
