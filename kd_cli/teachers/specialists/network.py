"""A generalist with its specialists as one network (Hinton, Vinyals and Dean 2015, section 5)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kd_cli.data.inputs import Inputs, rows
from kd_cli.data.spec import Spec
from kd_cli.errors import Phrase, must
from kd_cli.teachers.specialists.solver import combine


class Specialist(nn.Module):
    """A network for some classes and, as its last output, a dustbin for all others.

    It is trained on as many samples of its classes as of the others, so that its classes are over-sampled. In eval
    mode `correction`, the logarithm of that proportion, is added to the dustbin's logit (section 5.2).
    """

    correction: Tensor

    def __init__(self, num_classes: int, spec: Spec, network: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.network = network(num_classes=num_classes, **spec.arguments(network))
        self.register_buffer("correction", torch.zeros(num_classes))

    def forward(self, inputs: Inputs) -> Tensor:
        """Return logits `[N, classes + 1]`."""
        logits: Tensor = self.network(inputs)
        return logits if self.training else logits + self.correction

    @torch.no_grad()
    def start_from(self, generalist: nn.Module, own: Sequence[int], classes: int) -> None:
        """Takes over the weights of a network for `classes` classes; `own` are the specialist's.

        Its outputs for these start as the generalist's. The dustbin's starts as the mean of the others' plus the
        logarithm of their number, the first-order expansion of the log-sum-exp that it stands for. ConfigError where
        anything but an output layer depends on the number of classes.
        """
        theirs, rest = generalist.state_dict(), [k for k in range(classes) if k not in set(own)]
        read_by = {name: state for name, state in theirs.items() if name.endswith("_extra_state")}  # a tokenizer
        self.network.load_state_dict(read_by, strict=False)
        for name, ours in self.network.state_dict().items():
            weight = theirs.get(name, torch.empty(0))
            outputs = (classes, *weight.shape[1:]), (len(own) + 1, *weight.shape[1:])
            if weight.shape == ours.shape:
                ours.copy_(weight)
            elif (tuple(weight.shape), tuple(ours.shape)) == outputs:
                dustbin = weight[rest].mean(0, keepdim=True) + (math.log(len(rest)) if weight.ndim == 1 else 0)
                ours.copy_(torch.cat([weight[list(own)], dustbin]))
            else:
                raise must(
                    "teacher.generalist",
                    "a network whose output layer alone depends on the number of classes",
                    Phrase(
                        f"one whose {name} is {list(weight.shape)} for {classes} classes and {list(ours.shape)} for "
                        f"{len(own) + 1}"
                    ),
                )


class SpecialistEnsemble(nn.Module):
    """`sets` (int64 `[M, C]`) are the classes of each specialist, in the order of its outputs. Those are asked, and
    count, whose set holds one of the generalist's `top_n` most probable classes.
    """

    sets: Tensor

    def __init__(self, generalist: nn.Module, specialists: Sequence[nn.Module], sets: Tensor, top_n: int) -> None:
        super().__init__()
        self.generalist, self.specialists, self.top_n = generalist, nn.ModuleList(specialists), top_n
        self.register_buffer("sets", sets)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logarithms `[N, K]`, float32, of the combined probabilities: logits like any other."""
        general = self.generalist(inputs).float().log_softmax(1)
        likely = general.topk(self.top_n, dim=1).indices
        active = (self.sets[None, :, :, None] == likely[:, None, None, :]).flatten(2).any(2)
        said = general.new_zeros(len(general), len(self.sets), self.sets.shape[1] + 1)
        for m, specialist in enumerate(self.specialists):
            asked = active[:, m].nonzero()[:, 0]
            if len(asked):
                said[asked, m] = specialist(rows(inputs, asked)).float().log_softmax(1)
        return combine(general, said, self.sets, active).to(general.device, torch.float32)
