"""A network of which only some outputs are asked for, in an order of its own: a published one, for fewer classes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kd_cli.data.inputs import Inputs
from kd_cli.data.spec import Spec
from kd_cli.errors import must


class Chosen(nn.Module):
    """A network's logits in the order of other classes: `order` are numbers of its `outputs`."""

    order: Tensor

    def __init__(self, network: nn.Module, order: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.network, self.outputs = network, outputs
        self.register_buffer("order", torch.tensor(list(order)))

    def forward(self, inputs: Inputs) -> Tensor:
        """Return logits `[N, len(order)]`."""
        logits: Tensor = self.network(inputs)
        return logits[:, self.order]


def select_classes(
    num_classes: int, spec: Spec, network: Callable[..., nn.Module], outputs: int, order: Sequence[int]
) -> nn.Module:
    """Return logits `[N, num_classes]`: of a network with so many `outputs`, those whose numbers `order` names."""
    if len(order) != num_classes or not all(0 <= k < outputs for k in order):
        raise must(".model.order", f"{num_classes} of {outputs} outputs", list(order))
    return Chosen(network(num_classes=outputs, **spec.arguments(network)), order, outputs)


def built_from(config: dict[str, Any], network: nn.Module) -> dict[str, Any]:
    """Return the config by which `network` is built again, `config` being that of the one within it."""
    if not isinstance(network, Chosen):
        return config
    about = {"network": {**config, "_partial_": True}, "outputs": network.outputs, "order": network.order.tolist()}
    return {"_target_": "kd_cli.models.chosen.select_classes", "_partial_": True, **about}
