"""What a generalist and its specialists say together (Hinton, Vinyals and Dean 2015, section 5.3).

For each case q minimises KL(p_g ‖ q) + Σ_m KL(p_m ‖ q) over the active specialists m (equation 5), where q's
probability of m's dustbin is Q_m, the sum of q outside its classes S_m. The paper descends along the gradient of q's
logits. But with a_c = p_g,c + Σ_{m: c ∈ S_m} p_m,c, and d_m what m says of its dustbin, that is to maximise

    Σ_c a_c log q_c + Σ_m d_m log Q_m,    with the solution    q_c = a_c / D_c,    D_c = 1 + M − Σ_{m: c ∉ S_m} λ_m,

one multiplier λ_m = d_m / Q_m for each of the M active specialists. They minimise the convex dual

    −Σ_c a_c log D_c − Σ_m d_m log λ_m:

M unknowns in place of all classes, found by a damped Newton method in some ten steps, for all cases at a time. Three
steps of expectation maximisation, which share each dustbin out among the classes outside as q has them, give it its
start. Where no specialist counts, and for a single one, the first of them is the solution already.
"""

import torch
from torch import Tensor

TOLERANCE = 1e-10  # of λ_m Q_m / d_m = 1: where it holds for all m, q fulfils the Kuhn-Tucker conditions
STEPS = 100  # of Newton's method, at most
EM_STEPS = 3
FLOOR = 1e-12  # what a class outside takes at least of each dustbin; below it D has too few digits beside λ
TINY = 1e-200
NEAREST = 0.999  # how much of the way to where a D or λ would be zero a step may go
ENOUGH = 1e-4  # of the decrease that the slope promises (Armijo's rule)
BLOCK = 1024  # cases at a time, so that what is computed about them stays in the processor's cache


def combine(generalist: Tensor, specialists: Tensor, sets: Tensor, active: Tensor) -> Tensor:
    """Log q, float64 `[N, K]`, for N cases, K classes and M specialists of C classes each.

    `generalist` are log-probabilities `[N, K]`, `specialists` `[N, M, C + 1]`, their classes in the order of `sets`
    (int64 `[M, C]`) and the dustbin last; `active` (bool `[N, M]`) says which of them count in which case. Computed in
    float64 whatever is given, and on the CPU where the device has none. No case depends on another.
    """
    there = torch.device("cpu") if generalist.device.type == "mps" else generalist.device
    sets = sets.to(there)
    outside = torch.ones(len(sets), generalist.shape[1], dtype=torch.float64, device=there).scatter_(1, sets, 0)
    blocks = zip(generalist.split(BLOCK), specialists.split(BLOCK), active.split(BLOCK), strict=True)
    return torch.cat([_combine(g.to(there), s.to(there), a.to(there), sets, outside) for g, s, a in blocks])


def _combine(generalist: Tensor, specialists: Tensor, active: Tensor, sets: Tensor, outside: Tensor) -> Tensor:
    said = specialists.double().exp() * active[:, :, None]
    mass = generalist.double().exp()  # a
    for m, classes in enumerate(sets):
        mass[:, classes] += said[:, m, :-1]
    bound = active & outside.any(1)  # a set of all classes has no dustbin
    dustbin = said[:, :, -1].clamp(min=TINY) * bound  # d
    mass = torch.maximum(mass, FLOOR * dustbin @ outside).clamp(min=TINY)
    return (mass / _denominators(mass, dustbin, outside, bound, 1 + active.sum(1, keepdim=True))).log().log_softmax(1)


def _denominators(mass: Tensor, dustbin: Tensor, outside: Tensor, bound: Tensor, opinions: Tensor) -> Tensor:
    """D `[N, K]` for a `[N, K]`, d `[N, M]` (0 where not `bound`), the classes outside each set, 0 or 1 `[M, K]`, and
    1 + M `[N, 1]`.
    """
    q = mass / mass.sum(1, keepdim=True)
    for _ in range(EM_STEPS):
        q = (mass + q * ((dustbin / (q @ outside.T).clamp(min=TINY)) @ outside)) / opinions
    multiplier = dustbin / (q @ outside.T).clamp(min=TINY)  # λ
    multiplier *= (NEAREST * opinions / (multiplier @ outside).amax(1, keepdim=True).clamp(min=TINY)).clamp(max=1)
    # D is kept, and moved with λ: where it is small beside λ, computing it anew would lose its digits.
    below = opinions - multiplier @ outside
    found, left = torch.empty_like(mass), torch.arange(len(mass), device=mass.device)
    for _ in range(STEPS):
        q = mass / below
        residual = torch.where(bound, multiplier * (q @ outside.T) / dustbin - 1, 0)
        going = (residual.abs() > TOLERANCE).any(1)  # what is no number has nowhere to go
        found[left] = below
        if not going.any():
            break
        if not going.all():
            left, mass, dustbin, bound = left[going], mass[going], dustbin[going], bound[going]
            multiplier, below, q, residual = multiplier[going], below[going], q[going], residual[going]
        # In the unknowns Δλ / λ the slope is λQ − d, and the curvature diag(d) + λ_m λ_n Σ_{c ∉ S_m ∪ S_n} q_c / D_c.
        slope = residual * dustbin
        curvature = torch.diag_embed(torch.where(bound, dustbin, 1))
        for m, counts in enumerate(bound.T):
            rows = counts.nonzero()[:, 0]
            across = (q[rows] / below[rows] * outside[m]) @ outside.T
            curvature[rows, m] += multiplier[rows, m, None] * multiplier[rows] * across
        scale = curvature.diagonal(dim1=1, dim2=2).rsqrt()
        factor = torch.linalg.cholesky_ex(scale[:, :, None] * curvature * scale[:, None])[0]
        step = -scale * torch.cholesky_solve((scale * slope)[:, :, None], factor)[:, :, 0]
        move = -(step * multiplier) @ outside  # of D
        length = NEAREST / torch.maximum(-step.amin(1), -(move / below).amin(1)).clamp(min=NEAREST)[:, None]
        promised = ENOUGH * (slope * step).sum(1, keepdim=True)
        for _ in range(30):
            gained = mass * (length * move / below).log1p()
            change = -gained.sum(1, keepdim=True) - (dustbin * (length * step).log1p()).sum(1, keepdim=True)
            far = change > length * promised + 1e-15  # the dual's own rounding
            if not far.any():
                break
            length = torch.where(far, length / 2, length)
        multiplier, below = multiplier * (1 + length * step), below + length * move
    return found
