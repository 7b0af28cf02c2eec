"""Another output bias for a student whose transfer set lacked classes (Hinton, Vinyals and Dean 2015, section 3).

A class that the transfer set never showed is predicted too rarely, the others too often: one number a class mends part
of it. The paper chose that number on the test set, as `best_shift` does; `prior_shift` sees no label of the test split.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kd_cli.data.inputs import Inputs
from kd_cli.errors import TrainingError

TOLERANCE = 1e-6  # of a class's frequency: less than a tenth of an image in 60,000
ROWS = 8192  # at a time in float64
PROBE_TOLERANCE = 1e-5  # of the logits' size


def prior_shift(logits: Tensor, prior: Tensor) -> Tensor:
    """Return the shift of each class, float64 `[classes]` of mean 0, with which the mean softmax at T = 1 over the rows
    of `logits` `[N, classes]` is `prior` `[classes]` (which sums to 1), to within `TOLERANCE`.

    It is where the convex mean of logsumexp(logits + shift) − prior · shift is least: unique up to a constant, which no
    softmax sees. Newton's method takes a handful of steps; scaling each class by prior / mean instead (Sinkhorn's
    iteration) takes hundreds on confident logits. Every class must have a share of the prior. TrainingError where the
    logits are so far apart that the steps do not arrive.
    """
    from scipy.optimize import minimize  # 0.2 s, for this alone

    wanted = prior.double().cpu()

    def value_and_gradient(shift: np.ndarray) -> tuple[float, np.ndarray]:
        total, mean = 0.0, torch.zeros_like(wanted)
        for normaliser, probabilities in _shifted(logits, shift):
            total, mean = total + float(normaliser.sum()), mean + probabilities.sum(0)
        mean /= len(logits)
        return total / len(logits) - float(wanted @ torch.from_numpy(shift)), (mean - wanted).numpy()

    def hessian(shift: np.ndarray) -> np.ndarray:
        total = torch.zeros(len(wanted), len(wanted), dtype=torch.float64)
        for _, probabilities in _shifted(logits, shift):
            total += probabilities.sum(0).diag() - probabilities.T @ probabilities
        return (total / len(logits)).numpy()

    start = np.zeros(len(wanted))
    found = minimize(
        value_and_gradient, start, jac=True, hess=hessian, method="trust-exact", options={"gtol": TOLERANCE}
    )
    if not abs(found.jac).max() <= TOLERANCE:
        raise TrainingError(
            "bias_correction=prior found no output bias with which the student predicts each class as often as the "
            "training samples hold it. Set bias_correction=null."
        )
    return torch.from_numpy(found.x - found.x.mean())


def _shifted(logits: Tensor, shift: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    """Return logsumexp and softmax of the shifted logits in float64, block by block."""
    for block in logits.split(ROWS):
        wide = block.double() + torch.from_numpy(shift)
        normaliser = wide.logsumexp(1)
        yield normaliser, (wide - normaliser[:, None]).exp()


def best_shift(logits: Tensor, labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Return the one shift of all of `classes`, float64 `[classes]` and 0 for the others, that leaves the fewest errors
    on `logits` `[N, classes]` with `labels` `[N]`.

    A row goes over to `classes` where the shift passes the distance between its largest logit outside them and its
    largest inside: between two such distances nothing changes, so that all that can happen is tried. Of the intervals
    with the fewest errors the widest is taken, at its middle. What is chosen so on a test split says nothing of other
    images.
    """
    inside = torch.zeros(logits.shape[1], dtype=torch.bool)
    inside[list(classes)] = True
    wide = logits.double()
    (high, yes), (other, no) = (wide.masked_fill(which, -torch.inf).max(1) for which in (~inside, inside))
    edges, order = (other - high).sort()
    # errors below the first edge, and what each row that goes over adds
    gained = (yes != labels).long() - (no != labels).long()
    errors = int((no != labels).sum()) + torch.cat([torch.zeros(1, dtype=torch.int64), gained[order].cumsum(0)])
    edges = torch.cat([edges[:1] - 2, edges, edges[-1:] + 2])  # open at both ends
    width = edges.diff()
    errors[width == 0] = len(labels) + 1
    fewest = (errors == errors.min()).nonzero()[:, 0]
    chosen = fewest[width[fewest].argmax()]
    shift = torch.zeros(logits.shape[1], dtype=torch.float64)
    shift[inside] = edges[chosen] + width[chosen] / 2
    return shift


@torch.no_grad()
def output_bias(network: nn.Module, inputs: Inputs, classes: int) -> nn.Parameter | None:
    """Return the parameter `[classes]` that is added to the logits as it is: the last `bias` for which a trial on
    `inputs` shows that. None where there is none.
    """
    training = network.training
    network.eval()
    before = network(inputs).double()
    probe = torch.linspace(1, 2, classes, dtype=before.dtype, device=before.device)
    try:
        for name, parameter in reversed(list(network.named_parameters())):
            if name.rpartition(".")[2] != "bias" or parameter.shape != (classes,):
                continue
            kept = parameter.clone()
            parameter.add_(probe.to(parameter))
            moved = network(inputs).double() - before
            parameter.copy_(kept)
            if ((moved - probe).abs() <= PROBE_TOLERANCE * (1 + before.abs())).all():
                return parameter
    finally:
        network.train(training)
    return None
