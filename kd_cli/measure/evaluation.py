"""One evaluator for teacher, student and baseline: errors on a split, and what the model costs."""

import math
import statistics
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from kd_cli.data.inputs import Inputs, each, tensors
from kd_cli.data.samples import Split
from kd_cli.device import threads_for
from kd_cli.measure import metrics
from kd_cli.measure.figures import Count, Figures
from kd_cli.measure.flops import work_on
from kd_cli.measure.foreign import memory_of, parameters_of
from kd_cli.measure.prediction import predict

LATENCY_BATCHES = (1, 256)
LATENCY_SECONDS = 0.1  # for each batch size, at least MIN_REPEATS runs
LONGEST, LONGEST_PASS = 2.0, 4.0  # seconds for a batch size where no more than one pass fits, and for that pass
LATENCY_NUMBERS = 1 << 30
WARM_UP, MIN_REPEATS, MAX_REPEATS = 2, 3, 200


@dataclass(frozen=True)
class Evaluation:
    """A model's logits over a split, and what was `measured` of it, which belongs to no artifact yet."""

    logits: Tensor
    measured: Figures


def evaluate(
    model: nn.Module,
    split: Split,
    classes: tuple[str, ...],
    device: torch.device,
    teacher: Tensor | None = None,
    latency: bool = True,
) -> Evaluation:
    """Return the figures of `model` on the labelled `split`; with the teacher's logits, also how far the two agree.
    Without `latency` that is not measured.
    """
    training, began = model.training, time.perf_counter()
    logits = predict(model, split, device)
    seconds = (time.perf_counter() - began) / len(split)
    judged = judge_answers(logits, split, classes, teacher)
    sample = split.samples.spec.to_network(next(split.samples.stream([_usual(split)], device)))
    flops = work_on(model, sample).flops
    measured = replace(
        judged.measured,
        params=parameters_of(model),
        flops=int(flops) if math.isfinite(flops) else None,
        bytes=memory_of(model),
        latency_ms=_latencies(model, sample, flops, seconds) if latency else None,
    )
    model.train(training)
    return Evaluation(judged.logits, measured)


def judge_answers(
    logits: Tensor, split: Split, classes: tuple[str, ...], teacher: Tensor | None = None, labels: bool = False
) -> Evaluation:
    """Return the figures of what a model said of a labelled split, whatever it costs. One that tells `labels` alone has
    no probabilities to be judged by.
    """
    wrong, n = metrics.errors(logits, split.labels), len(split)
    counts = metrics.per_class(logits, split.labels, classes)
    outvoted, sounds = metrics.outvoted(logits, split.votes) if split.votes is not None else (None, None)
    measured = Figures(
        errors=wrong,
        n=n,
        accuracy=1 - wrong / n,
        nll=None if labels else metrics.nll(logits, split.labels),
        ece=None if labels else metrics.ece(logits, split.labels),
        params=None,
        flops=None,
        bytes=None,
        latency_ms=None,
        per_class={name: Count(**count) for name, count in counts.items()},
        artifact=None,
        agreement=None if teacher is None else metrics.agreement(logits, teacher),
        kl_to_teacher=None if teacher is None else metrics.kl_to_teacher(logits, teacher),
        sound_errors=outvoted,
        sounds=sounds,
    )
    return Evaluation(logits, measured)


def _latencies(model: nn.Module, sample: Inputs, flops: float, seconds: float) -> dict[str, float | None]:
    """The latency of each batch size: None for one whose pass would take longer than LONGEST_PASS, judged by what a
    sample took in the evaluation (`seconds`), or takes alone.
    """
    found: dict[str, float | None] = {}
    for size in LATENCY_BATCHES:
        found[str(size)] = latency_ms(model, sample, size, flops) if seconds * size < LONGEST_PASS else None
        seconds = min(seconds, (found[str(size)] or math.inf) / 1000 / size)
    return found


def _usual(split: Split) -> Tensor:
    """The position of the sample by which costs are measured: of texts one of median length."""
    lengths: Tensor | None = getattr(split.samples, "lengths", None)
    return torch.tensor([0]) if lengths is None else lengths.argsort(stable=True)[[len(lengths) // 2]]


@torch.inference_mode()
def latency_ms(model: nn.Module, sample: Inputs, batch: int, flops: float = math.inf) -> float | None:
    """Return the median milliseconds of a forward pass on the sample's device, after warm-up unless a pass takes
    seconds; on one thread where the operations of a sample are so few that a batch is too small to share. None for a
    batch of more than 4 GB.
    """
    if sum(value.numel() for value in tensors(sample)) * batch > LATENCY_NUMBERS:
        return None
    model.eval()
    with threads_for(flops * batch):
        return _median_ms(model, sample, batch)


def _median_ms(model: nn.Module, sample: Inputs, batch: int) -> float:
    inputs = each(sample, lambda value: value.repeat(batch, *[1] * (value.ndim - 1)))
    device = tensors(inputs)[0].device
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < WARM_UP + MAX_REPEATS:
        started = time.perf_counter()
        model(inputs)
        if device.type != "cpu":
            torch.accelerator.synchronize()
        taken.append((time.perf_counter() - started) * 1000)
        spent = time.perf_counter() - began
        if spent > LONGEST or (len(taken) >= WARM_UP + MIN_REPEATS and spent > LATENCY_SECONDS):
            break
    return statistics.median(taken[WARM_UP:] or taken[-1:])
