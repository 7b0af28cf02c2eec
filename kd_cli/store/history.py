"""The history of a training: one line of JSON an epoch."""

import json

HISTORY = "history.jsonl"


def read_history(text: str) -> list[dict[str, float]]:
    """Return the epochs of a history.jsonl; ValueError or TypeError for what is none."""
    epochs = [json.loads(line) for line in text.splitlines()]
    for epoch in epochs:
        if not all(type(value) in (int, float) for value in epoch.values()):
            raise TypeError("its history holds something else than numbers")
    return epochs
