"""The K largest logits of a row in place of all of them, and what the rest weighs.

softmax(v/T) gives the classes that are not kept a mass r together, which depends on T. A row therefore states, for each
temperature that it is to serve, ρ = log Σ_rest exp(v/T). Read at T, each of the C − K others is given the logit
T · (ρ − log(C − K)): their powers sum to exp(ρ) again, so that objectives see ordinary logits `[n, C]`.

How far off that is: p from all logits and q from the rebuilt ones agree on every kept class, for their normalisers
agree; on the rest both have the mass r. So the total variation is ½ Σ_rest |p − r/(C − K)| ≤ ½ (r + r) = r, by the
triangle inequality. Rounding to float16 comes on top, as it does for all logits; it leaves r as it is, since ρ is
stated relative to the rounded logits.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def compress(logits: Tensor, k: int, temperatures: Sequence[float], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return max-centred `logits` `[n, k]` of `dtype`, descending; their `classes` int32 `[n, k]`; `rest`, the ρ of
    each temperature, float32 `[n, temperatures]`, −∞ where nothing is left out.
    """
    exact = logits.double()
    exact = exact - exact.max(1, keepdim=True).values
    largest, classes = exact.topk(k)
    others = exact.scatter(1, classes, -math.inf)
    kept = largest.clamp(min=torch.finfo(dtype).min).to(dtype)
    rest = [
        torch.logsumexp(others / t, 1) + torch.logsumexp(kept.double() / t, 1) - torch.logsumexp(largest / t, 1)
        for t in temperatures
    ]
    return {"logits": kept, "classes": classes.int(), "rest": torch.stack(rest, 1).float()}


def rebuild(kept: Tensor, chosen: Tensor, rest: Tensor, temperature: float, classes: int) -> Tensor:
    """Return float32 logits `[n, classes]`: `kept` at the classes `chosen` (both `[n, k]`), and the mass exp(`rest`)
    `[n]` at this temperature spread evenly over the others.
    """
    each = temperature * (rest - math.log(max(classes - kept.shape[1], 1)))
    return each[:, None].repeat(1, classes).scatter_(1, chosen.long(), kept.float())
