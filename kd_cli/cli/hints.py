"""The very line that would have worked.

No hint leads to the next refusal: each is composed and checked before it is printed.
"""

import shlex
from collections.abc import Sequence

from omegaconf import OmegaConf

from kd_cli.cli.choices import choices
from kd_cli.cli.guesses import candidates, groups_of, items, keys_of
from kd_cli.cli.typed import Words

MOST = 8  # guesses that are tried for one word
PLACEHOLDERS = {
    "path": "<folder of a run or an artifact>",
    "images": "<file or folder>",
    "texts": "<file>",
    "sweep": "<folder of a sweep>",
}


def mended(typed: Words) -> tuple[list[str], str] | None:
    """Overrides that the command accepts in place of all that was typed, and what else the first guess could have been;
    None where somebody would have to guess more.
    """
    new: list[str] = []
    other = ""
    for item in items(typed.words):
        if isinstance(item, str) and item in typed.fitting:
            new.append(item)
            continue
        seen: list[list[str]] = []
        for words in candidates(typed, item, [word.partition("=")[0] for word in new]):
            if words not in seen and len(seen) < MOST and typed.accepts(_replaced(typed.fitting, words)):
                break
            seen.append(words)
        else:
            return None
        new = _replaced(new, words)
        twin = words[-1].replace("student", "teacher") if len(words) == 1 else ""
        for one, two in (("soft_weight", "hard_weight"), ("transfer.augment", "teacher.augment")):
            twin = twin.replace(one, two)
        if not other and twin != words[-1] and "student" not in str(item) and typed.accepts([*typed.fitting, twin]):
            other = shlex.quote(twin)
    return (new, other) if typed.accepts(new) else None


def _replaced(overrides: Sequence[str], words: Sequence[str]) -> list[str]:
    """The overrides with these words, in place of what they contradict."""
    keys = {word.partition("=")[0] for word in words}
    return [*(word for word in overrides if word.partition("=")[0] not in keys), *words]


def suggestion(typed: Words) -> str:
    """`Write: kd …`, or nothing."""
    found = mended(typed)
    if found is None:
        return ""
    words, other = found
    config = typed.config(words)
    missing = sorted(OmegaConf.missing_keys(config)) if config is not None else []
    line = typed.line([*words, *(f"{key}={PLACEHOLDERS.get(key, '…')}" for key in missing)])
    return f"Write: {line if not missing else line.replace(chr(39), '')}" + (f" (or {other})" if other else "")


def named(typed: Words, name: str) -> str:
    """Return the key that was meant where its value would be refused too, or nothing."""
    for place, group in groups_of(typed, name):
        return f"Write {place}=…, one of {', '.join(choices(group, typed.own))}."
    for key in keys_of(typed, name):
        return f"The key is {key}."
    return ""
