"""What a network must give: logits, and nothing else."""

from torch import Tensor

from kd_cli.errors import Phrase, must


def check_logits(logits: object, n: int, classes: int, noun: str) -> None:
    """Raise ConfigError unless a network's output in training mode is that of eval mode: a tensor of logits."""
    rule = "a network that gives logits alone, also while it is trained"
    hint = "Leave out its auxiliary outputs (for torchvision's own: aux_logits=false), or wrap it."
    if not isinstance(logits, Tensor):
        raise must(".model", rule, type(logits).__name__, hint)
    if tuple(logits.shape) != (n, classes) or not logits.is_floating_point():
        got = f"{str(logits.dtype).removeprefix('torch.')} {list(logits.shape)} for {n} {noun}"
        raise must(".model", f"{rule}, [{n}, {classes}] here", Phrase(got), hint)
    check_no_probabilities(logits)


def check_no_probabilities(outputs: Tensor, key: str = ".model") -> None:
    """Raise ConfigError, by the network's `key`, for outputs that can only be those of a softmax: they would be
    softened a second time.
    """
    rows = outputs.detach().float()
    if rows.shape[1] > 1 and bool((rows >= 0).all()) and bool(((rows.sum(1) - 1).abs() < 1e-3).all()):
        got = Phrase("outputs that are ≥ 0 and sum to 1, as after a softmax")
        hint = "Leave its last layer out, or return the logarithm of what it gives: kd applies the softmax itself."
        raise must(key, "a network that gives logits", got, hint)
