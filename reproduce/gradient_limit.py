"""The cosine between the gradient of distillation at T and that of logit matching, by the logits and by the weights of
the students that the sweep `logit_matching` trained without a teacher, over 1,000 training images. Writes
gradients.json into the sweep's folder.

    python reproduce/gradient_limit.py --mnist <folder> [--output outputs] [--budget full]
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from experiments.experiment import Results
from experiments.logit_matching import GRADIENTS, NAME
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

import kd_cli
from kd_cli.datasets.mnist import mnist
from kd_cli.objectives.hinton import soft_loss
from kd_cli.objectives.logit_matching import matching_loss

TEMPERATURES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
IMAGES = 1000


def gradients(student: nn.Module, images: Tensor, loss: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The loss's gradient by the student's logits on these images, and by all its weights, each as a float64 vector."""
    logits = student(images)
    by = torch.autograd.grad(loss(logits), [logits, *student.parameters()])
    return {"logits": by[0].double().flatten(), "weights": torch.cat([part.double().flatten() for part in by[1:]])}


def main() -> None:
    """Measures each seed's student and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", required=True)
    parser.add_argument("--output", default="outputs")
    parser.add_argument("--budget", default="full")
    asked = parser.parse_args()
    results = Results(Path(asked.output), asked.budget)
    split = mnist(asked.mnist).train
    images = next(split.samples.stream([torch.arange(IMAGES)], torch.device("cpu"))).float() / 255
    found: dict[str, dict[str, list[float]]] = {"logits": {}, "weights": {}}
    for job in results.jobs(NAME, {"objective": "hinton"}):
        teacher, student = (
            kd_cli.load(results.output / job[f"{role}_artifact"]).model for role in ("teacher", "baseline")
        )
        with torch.no_grad():
            known = teacher(images)
        limit = gradients(student, images, lambda z, v=known: matching_loss(z, v))
        for kind in found:
            found[kind][str(job["seed"])] = []
        for temperature in TEMPERATURES:
            here = gradients(student, images, lambda z, v=known, t=temperature: soft_loss(z, v, t))
            for kind, cosines in found.items():
                cosines[str(job["seed"])].append(float(cosine_similarity(here[kind], limit[kind], dim=0)))
    path = results.folder(NAME) / GRADIENTS
    path.write_text(json.dumps({"temperatures": TEMPERATURES, **found}, indent=2) + "\n")
    print(path)


if __name__ == "__main__":
    main()
