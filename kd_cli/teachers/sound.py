"""Whether a teacher's answers can be trusted, before anything is made of them."""

from itertools import chain

import torch
from torch import Tensor, nn

from kd_cli.data.samples import Split
from kd_cli.errors import ArtifactError, must
from kd_cli.measure.prediction import predict

ASKED = 32  # samples
TOLERANCE = 0.05  # of the logits' size, as between a dump and its check


def check_teacher(network: nn.Module, split: Split, device: torch.device, name: str) -> None:
    """Raise ArtifactError, in the name of the teacher, for weights or logits that are not numbers, and for an answer
    about a sample that depends on chance or on the others of its batch.
    """
    noun = split.samples.spec.noun
    positions = torch.arange(min(ASKED, len(split)))

    def answer(batch_size: int) -> Tensor:
        return predict(network, split, device, positions=positions, batch_size=batch_size)

    first = answer(ASKED)
    check_numbers(first, network, name, noun)
    if differ(first, answer(ASKED)):
        raise ArtifactError(
            f"{name} must answer alike when it is asked twice, got other logits for the same {noun}: it draws "
            "random numbers in eval mode. Switch that off in its forward (if self.training: …)."
        )
    if len(positions) > 1 and differ(first, answer(max(1, len(positions) // 2))):
        raise ArtifactError(
            f"{name} must answer about each {noun.removesuffix('s')} by itself, got other logits in another batch: it "
            "uses the batch's own statistics in eval mode. Give its batch norms running statistics."
        )


def check_numbers(logits: Tensor, network: nn.Module | None, name: str, noun: str) -> None:
    """Raise ArtifactError, with the weights that are to blame where there are any, for NaN or +∞; −∞ is a class that
    cannot be.
    """
    wrong = (logits.isnan() | logits.isposinf()).any(1)
    if not wrong.any():
        return
    rule = f"{name} must give finite logits, got NaN or infinity for {int(wrong.sum())} of {len(wrong)} {noun}"
    if network is None:
        raise ArtifactError(f"{rule}.", "Mend its answers, or take another teacher.")
    state = chain(network.named_parameters(), network.named_buffers())
    spoilt = [key for key, value in state if value.is_floating_point() and not value.isfinite().all()]
    shown = ", ".join(spoilt[:5]) + (f" and {len(spoilt) - 5} more" if len(spoilt) > 5 else "")
    why = f"not all numbers of {shown} are finite" if spoilt else "its weights are finite, what it makes of them is not"
    raise ArtifactError(f"{rule}: {why}. Take another teacher, or train it anew with a lower learning rate.")


def check_range(logits: Tensor, dtype: torch.dtype) -> None:
    """Raise ConfigError for finite logits that lie farther apart than the type in which they are stored can hold."""
    if not len(logits):
        return
    centred = logits - logits.max(1, keepdim=True).values
    least = float(centred.masked_fill(centred.isinf(), 0).min())
    if least < torch.finfo(dtype).min:
        kind = str(dtype).removeprefix("torch.")
        hint = f"They lie up to {-least:.3g} apart, {kind} holds {torch.finfo(dtype).max:.3g}."
        raise must("targets.dtype", "float32 for the logits of this teacher", kind, hint)


def differ(one: Tensor, other: Tensor) -> bool:
    """Return whether two answers differ by more than kernels do; −∞ is equal to itself."""
    equal = one == other
    distance = (one - other).masked_fill(equal, 0).norm(dim=1)
    size = one.masked_fill(one.isinf(), 0).norm(dim=1)
    return not bool((distance <= TOLERANCE * size + 0.01).all())
