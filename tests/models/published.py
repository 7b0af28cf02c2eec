"""Published networks, and the size of one."""

from torch import nn


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5",
    "mobilenet_v3_small", "resnet50", "shufflenet_v2_x0_5", "squeezenet1_0", "swin_t", "vgg11", "vit_b_16",
)  # fmt: skip


def published() -> list[tuple[str, str]]:
    from torchvision import models

    return [(name, entry.name) for name in FAMILIES for entry in models.get_model_weights(name)]
