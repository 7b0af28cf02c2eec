"""What torch does not see: networks that another library computes."""

from torch import nn


class Foreign(nn.Module):
    """A network whose weights and work are another library's: what it computes for a sample is unknown, the numbers
    that it has learnt are `learnt`, and its file has `size` bytes.
    """

    def __init__(self, learnt: int, size: int) -> None:
        super().__init__()
        self.learnt, self.size = learnt, size


def is_foreign(model: nn.Module) -> bool:
    """Return whether any part of a network is another library's."""
    return any(isinstance(part, Foreign) for part in model.modules())


def parameters_of(model: nn.Module) -> int:
    """Return how many numbers a network has learnt."""
    own = sum(value.numel() for value in model.parameters())
    return own + sum(part.learnt for part in model.modules() if isinstance(part, Foreign))


def memory_of(model: nn.Module) -> int:
    """Return how many bytes a network's weights and buffers take; of another library's part, its file."""
    own: int = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    return own + sum(part.size for part in model.modules() if isinstance(part, Foreign))
