"""What is likely where a teacher from elsewhere is far worse than one that has learnt its task: its inputs were
normalised otherwise, or its outputs stand in another order. Found by asking it, about training samples alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kd_cli.data.inputs import tensors
from kd_cli.data.samples import Split
from kd_cli.measure.prediction import predict
from kd_cli.models.normalise import Normalise

ASKED = 256  # samples
GOOD = 0.8  # the share that is right, above which nothing is looked for
BETTER = 0.1  # more of it: three standard errors of its difference
ORDERED = 0.6  # the share that is right in some other order of the classes, from which on that is likely
COLOURS = {  # of inputs from 0 to 1
    "those of ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "those of CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "those of CIFAR-100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
GREY = {
    "none": ((0.0,), (1.0,)),
    "inputs from -1 to 1": ((0.5,), (0.5,)),
    "inputs from 0 to 255": ((0.0,), (1 / 255,)),
    "those of MNIST": ((0.1307,), (0.3081,)),
}


def advice(network: nn.Module, train: Split, device: torch.device, key: str) -> str:
    """Return what to try with the teacher at `key`; "" where it does well, or nothing is better than what it has."""
    positions = (train.labels >= 0).nonzero().flatten()
    positions = positions[torch.linspace(0, len(positions) - 1, min(ASKED, len(positions))).long()]
    labels, noun = train.labels[positions], train.samples.spec.noun
    logits = predict(network, train, device, positions=positions)
    right = _right(logits, labels)
    n, share = len(labels), right / len(labels)
    if share >= GOOD:
        return ""
    said = f"{key} is right about {right} of {n} training {noun} only."
    layers = [module for module in network.modules() if isinstance(module, Normalise)]
    if len(layers) == 1:
        tried = {}
        for name, (mean, std) in _normalisations(layers[0], train, positions, device):
            with _set(layers[0], mean, std):
                tried[name] = _right(predict(network, train, device, positions=positions), labels), mean, std
        name, (best, mean, std) = max(tried.items(), key=lambda each: each[1][0])
        if best / n >= share + BETTER:
            keys = f"'{key}.model.mean={_list(mean)}' '{key}.model.std={_list(std)}'"
            return f"{said} It would be about {best} with another normalisation of its inputs ({name}): {keys}."
    classes = logits.shape[1]
    enough = n >= 5 * classes  # few samples of many classes can be put into some order that looks right
    if enough and float((_order(logits, labels)[logits.argmax(1)] == labels).float().mean()) >= max(
        share + 3 * BETTER, ORDERED
    ):
        return f"{said} Its outputs seem to stand in another order of the classes: name it by {key}.classes=[…]."
    if share * classes < 2:
        return f"{said} That is hardly better than chance: was it trained for these classes, and on inputs like these?"
    return ""


def _right(logits: Tensor, labels: Tensor) -> int:
    return int((logits.argmax(1) == labels).sum())


def _order(logits: Tensor, labels: Tensor) -> Tensor:
    """Which class each output would stand for if as many samples as can be were right."""
    from scipy.optimize import linear_sum_assignment  # takes half a second

    classes = logits.shape[1]
    counts = torch.zeros(classes, classes)
    counts.index_put_((logits.argmax(1), labels), torch.ones(len(labels)), accumulate=True)
    return torch.as_tensor(linear_sum_assignment(-counts.numpy())[1])


def _normalisations(
    layer: Normalise, train: Split, positions: Tensor, device: torch.device
) -> Iterator[tuple[str, tuple[tuple[float, ...], tuple[float, ...]]]]:
    """Means and standard deviations in use, with a name for each; last those of the data."""
    yield from GREY.items()
    stored = next(train.samples.stream([positions], device))
    values = tensors(train.samples.spec.to_network(stored))[0].transpose(0, 1).flatten(1)
    if len(values) == 3:
        yield from COLOURS.items()
    std = tuple(round(max(float(value), 1e-3), 4) for value in values.std(1))
    yield "those of the data", (tuple(round(float(value), 4) for value in values.mean(1)), std)


@contextmanager
def _set(layer: Normalise, mean: tuple[float, ...], std: tuple[float, ...]) -> Iterator[None]:
    """Within it, a layer normalises otherwise."""
    before = layer.mean, layer.std
    for name, values in (("mean", mean), ("std", std)):
        made = torch.tensor(values, device=before[0].device).view(-1, *before[0].shape[1:])
        setattr(layer, name, made)
    try:
        yield
    finally:
        layer.mean, layer.std = before


def _list(values: tuple[float, ...]) -> str:
    return f"[{','.join(f'{value:.4g}' for value in values)}]"
