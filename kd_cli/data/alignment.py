"""Which state of which sound each moment of a recording belongs to, as a forced alignment says: targets of frames.

A file of JSON lines, one a recording: `{"file": "0_george_0.wav", "states": [["Z.0", 0.05, 0.08], …]}`, each state with
its begin and end in seconds. A recording that is in none is left out, and so is a moment that is in no state.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kd_cli.data.hearing import Hearing
from kd_cli.errors import DataError, first_line, reading

KEY = ".dataset.alignments"
Segment = tuple[str, float, float]


@dataclass(frozen=True)
class Alignment:
    """The `states` in order of their names, and each recording's segments by the name of its file."""

    states: tuple[str, ...]
    segments: Mapping[str, list[Segment]]

    def labels(self, name: str, frames: int, hearing: Hearing) -> Tensor:
        """Return the number of each frame's state, that of the middle of its window; −1 in none; int64 `[frames]`."""
        found = torch.full((frames,), -1)
        middle = torch.arange(frames) * (hearing.step_length / hearing.rate) + hearing.window_length / hearing.rate / 2
        numbers = {state: number for number, state in enumerate(self.states)}
        for state, begin, end in self.segments[name]:
            found[(middle >= begin) & (middle < end)] = numbers[state]
        return found


def read_alignment(path: str) -> Alignment:
    """Return what the file at `path` says. DataError where it is none, with its line."""
    segments: dict[str, list[Segment]] = {}
    with reading(path), Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                name, states = entry["file"], entry["states"]
                if name in segments:
                    raise ValueError(f"{name} comes again")
                segments[name] = [(str(state), float(begin), float(end)) for state, begin, end in states]
            except (ValueError, TypeError, KeyError) as error:
                hint = 'A line is {"file": …, "states": [[<state>, <begin>, <end>], …]}, times in seconds.'
                raise DataError(f"{path}, line {number}, is no alignment ({first_line(error)}).", hint) from error
    states = sorted({state for each in segments.values() for state, _, _ in each})
    if not states:
        raise DataError.must(KEY, "a file with the states of recordings", path, "", KEY)
    return Alignment(tuple(states), segments)
