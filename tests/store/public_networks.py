"""The CIFAR networks of public implementations, as their authors wrote them: what their files hold comes from these."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Padded(nn.Module):
    """akamaster's shortcut of option A: every other pixel, its channels amid zeros."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.planes = planes

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.planes // 4, self.planes // 4), "constant", 0)


class Block(nn.Module):
    def __init__(self, inputs: int, planes: int, stride: int, shortcut: str, option: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.name, made = shortcut, None
        if stride != 1 or inputs != planes:
            project = nn.Sequential(nn.Conv2d(inputs, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))
            made = Padded(planes) if option == "A" else project
        setattr(self, shortcut, made)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = getattr(self, self.name)
        return F.relu(inner + (x if shortcut is None else shortcut(x)))


class ResNet(nn.Module):
    """akamaster (`linear`, `shortcut`, option A), kuangliu's names (`linear`, `shortcut`), chenyaofo and RepDistiller
    (`fc`, `downsample`).
    """

    def __init__(self, blocks: int, classes: int, shortcut: str, head: str, option: str = "B") -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        inputs = 16
        for stage, planes in enumerate((16, 32, 64), 1):
            layers = []
            for k in range(blocks):
                layers.append(Block(inputs, planes, 2 if stage > 1 and not k else 1, shortcut, option))
                inputs = planes
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.head = head
        setattr(self, head, nn.Linear(64, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x))).mean((2, 3))
        logits: Tensor = getattr(self, self.head)(x)
        return logits


class WideBlock(nn.Module):
    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.relu1 = nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(planes), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.equalInOut = inputs == planes
        self.convShortcut = None if self.equalInOut else nn.Conv2d(inputs, planes, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.convShortcut is None:
            out = self.relu1(self.bn1(x))
            return x + self.conv2(self.relu2(self.bn2(self.conv1(out))))
        x = self.relu1(self.bn1(x))
        return self.convShortcut(x) + self.conv2(self.relu2(self.bn2(self.conv1(x))))


class Stage(nn.Module):
    def __init__(self, blocks: int, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            *(WideBlock(planes if k else inputs, planes, 1 if k else stride) for k in range(blocks))
        )

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x)
        return made


class WideResNet(nn.Module):
    """xternalz/WideResNet-pytorch, and RepDistiller after it."""

    def __init__(self, blocks: int, width: int, classes: int) -> None:
        super().__init__()
        planes = [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.block1 = Stage(blocks, planes[0], planes[1], 1)
        self.block2 = Stage(blocks, planes[1], planes[2], 2)
        self.block3 = Stage(blocks, planes[2], planes[3], 2)
        self.bn1, self.fc = nn.BatchNorm2d(planes[3]), nn.Linear(planes[3], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(F.relu(self.bn1(x)).mean((2, 3)))
        return logits


def settled(network: nn.Module) -> nn.Module:
    """A network whose batch norms have statistics and scales of their own."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()
