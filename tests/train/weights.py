"""The weights of a model as one vector."""

from torch import Tensor, nn


def weights(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()
