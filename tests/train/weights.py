"""The weights of a model as one vector."""

import torch
from torch import Tensor, nn

CPU = torch.device("cpu")


def weights(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()
