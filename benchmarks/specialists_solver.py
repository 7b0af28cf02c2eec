"""Seconds for the combined answer of a generalist and specialists: 10,000 cases × 1,000 classes × 20 specialists."""

import argparse
import time

import torch

from kd_cli.teachers.specialists.solver import combine


def main() -> None:
    """Prints one line for each spread of the logits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--specialists", type=int, default=20)
    parser.add_argument("--classes-each", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    shape = (asked.cases, asked.specialists)
    sets = torch.stack([torch.randperm(asked.classes)[: asked.classes_each] for _ in range(asked.specialists)])
    print(f"{asked.cases:,} × {asked.classes:,} × {asked.specialists}, {asked.threads} threads, seconds:")
    for spread in (1, 4, 16):  # standard deviation of the logits
        generalist = (spread * torch.randn(asked.cases, asked.classes)).log_softmax(1)
        specialists = (spread * torch.randn(*shape, asked.classes_each + 1)).log_softmax(2)
        seconds = []
        for active in (torch.ones(shape, dtype=torch.bool), torch.rand(shape) < 0.1):
            started = time.perf_counter()
            combine(generalist, specialists, sets, active)
            seconds.append(time.perf_counter() - started)
        print(f"logits ± {spread}: {seconds[0]:.1f} with all active, {seconds[1]:.1f} with a tenth")


if __name__ == "__main__":
    main()
