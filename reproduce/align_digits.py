"""States of a hidden Markov model for every moment of the spoken digits, by forced alignment: the targets of
`experiment=speech_ensemble`.

    python reproduce/align_digits.py --digits <folder> --output alignments.jsonl

Needs pocketsphinx, whose wheel holds its acoustic model and dictionary (pip install pocketsphinx soundfile). A state is
one of the three of a phone, whatever its neighbours: `Z.0`, `Z.1`, `Z.2`. The file has a line for each recording that
could be aligned: `{"file": …, "states": [[<state>, <begin>, <end>], …]}`, times in seconds.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from pocketsphinx import Decoder
from scipy.signal import resample_poly

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE, FRAME = 16_000, 0.01  # of the acoustic model
QUIET = (
    0.2  # seconds of faint noise before and after: the model expects silence there, and the recordings are cut close
)
PEAK, FAINT = 0.8, 1e-4


def align(decoder: Any, path: Path, word: str) -> list[tuple[str, float, float]]:
    """State, begin and end in seconds; empty where the word is not found in the sound."""
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    sound = resample_poly(sound.mean(1), RATE, rate)
    draw = np.random.default_rng(0)
    before, after = (draw.normal(0, FAINT, round(QUIET * RATE)) for _ in range(2))
    padded = np.concatenate([before, sound / max(np.abs(sound).max(), FAINT) * PEAK, after])
    raw = (padded * 32767).astype(np.int16).tobytes()
    decoder.set_align_text(word)
    for begin in (lambda: None, decoder.set_alignment):  # words first, then their states
        begin()
        decoder.start_utt()
        decoder.process_raw(raw, full_utt=True)
        decoder.end_utt()
    seconds, found = len(sound) / RATE, []
    for phone in (phone for each in decoder.get_alignment() for phone in each):
        for number, state in enumerate(phone):
            begin, end = (state.start * FRAME - QUIET, (state.start + state.duration) * FRAME - QUIET)
            if end > 0 and begin < seconds:
                found.append((f"{phone.name}.{number}", round(max(begin, 0), 3), round(min(end, seconds), 3)))
    return found


def main() -> int:
    """Exit status 1 where nothing could be aligned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", required=True, help="folder of <digit>_<speaker>_<index>.wav, or with recordings/")
    parser.add_argument("--output", default="alignments.jsonl")
    asked = parser.parse_args()
    folder = Path(asked.digits) / "recordings"
    names = sorted((folder if folder.is_dir() else Path(asked.digits)).glob("[0-9]_*_*.wav"))
    decoder, lines, states = Decoder(samprate=RATE, loglevel="FATAL", bestpath=False), [], set()
    for path in names:
        try:
            found = align(decoder, path, WORDS[int(re.match(r"\d", path.name)[0])])  # type: ignore[index]
        except RuntimeError:  # the word is not found
            continue
        if found:
            lines.append(json.dumps({"file": path.name, "states": found}))
            states |= {state for state, _, _ in found}
    Path(asked.output).write_text("\n".join([*lines, ""]), encoding="utf-8")
    print(f"{asked.output}: {len(lines)} of {len(names)} recordings, {len(states)} states", file=sys.stderr)
    return 0 if lines else 1


if __name__ == "__main__":
    sys.exit(main())
