"""What a person who typed something else may have meant."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import yaml
from omegaconf import ListConfig

from kd_cli.cli import schema
from kd_cli.cli.choices import CONFIGS, choices
from kd_cli.cli.keys import SCHEMAS, keys
from kd_cli.cli.spelling import group_of, is_override, sorted_out
from kd_cli.cli.typed import Words

OTHER_NAMES = {
    "temperature": "t temp tau", "epochs": "e epoch n_epochs num_epochs", "lr": "learning_rate", "weight_decay": "wd",
    "batch_size": "b bs batch batchsize", "seed": "s random_seed", "yes": "y f force assume_yes", "dataset": "d data",
    "output_dir": "o out output outdir output_folder save_dir", "root": "data_dir data_root datadir data_path",
    "optimizer": "opt optim", "scheduler": "sched schedule lr_scheduler", "widths": "hidden hidden_size width",
    "workers": "num_workers", "validation": "val", "transfer.labels": "labels", "augment": "augmentation",
    "images": "image input", "path": "folder run", "objective": "loss", "model": "net network arch architecture",
    "experiment": "exp", "sweep.name": "name", "start_from": "init init_from resume_from pretrained finetune",
}  # fmt: skip
MEANT = {name: key for key, names in OTHER_NAMES.items() for name in names.split()}
SEVERAL = {
    "alpha": ("soft_weight", "hard_weight"),
    "lambda": ("soft_weight", "hard_weight"),
}  # in papers it is either one
BARE = {"evaluate": ("path",), "predict": ("path", "images", "texts"), "list": ("output_dir",),
        "clean": ("output_dir",), "summarize": ("sweep",)}  # fmt: skip
PICTURE = re.compile(r".*\.(png|jpe?g|bmp|gif|webp|tiff?)", re.IGNORECASE)
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
WEIGHTS = (".pt", ".pth", ".safetensors", ".ckpt", ".bin")
Item = str | tuple[str, str | None]  # an override, or a name with what may be its value


def items(words: Sequence[str]) -> Iterator[Item]:
    """Yield what was typed, with what belongs together put together: `--lr 0.1`, `lr = 0.1`, `widths=[64, 64]`."""
    overrides, _, strays = sorted_out(words)
    left = [word for word in words if word in overrides or word in strays]
    while left:
        word = left.pop(0)
        opened = word.count("[") + word.count("{")
        while left and opened > word.count("]") + word.count("}"):
            word += left.pop(0)
            opened = word.count("[") + word.count("{")
        name, equals, value = word.lstrip("-").partition("=")
        dashed = word.startswith("-") and not re.fullmatch(r"-\d.*", word)
        stray = left[0] if left and not left[0].startswith("-") and not is_override(left[0]) else None
        known = word in overrides
        while equals and value and known and left and re.fullmatch(r"[\d.,e+-]+", left[0]):
            word = f"{word.rstrip(',')},{left.pop(0).lstrip(',')}"  # `seed=0 1 2`
        if equals and not value and stray is not None and known:
            yield f"{word}{left.pop(0)}"
        elif is_override(word):
            yield word
        elif dashed and equals:
            yield name, value
        elif left and left[0].startswith("=") and len(left[0]) > 1:
            yield f"{name}{left.pop(0)}"
        elif left[:1] == ["="] and len(left) > 1:
            yield f"{name}={left[1]}"
            del left[:2]
        elif dashed:
            yield name, left.pop(0) if stray is not None else None
        elif stray is not None and (_plain(name) in MEANT or re.fullmatch(r"[a-z_.]+", name)) and _key_like(name):
            yield name, left.pop(0)
        else:
            yield "", word


def _key_like(name: str) -> bool:
    known = {key for command in SCHEMAS for key in keys(command)}
    return name in known or name in MEANT or ("." in name and name.partition(".")[0] in known)


def _plain(name: str) -> str:
    return name.replace("-", "_").lower() if len(name) > 1 else name.lower()


def candidates(typed: Words, item: Item, used: Sequence[str]) -> Iterator[list[str]]:
    """Words that may have been meant, the likeliest first."""
    if isinstance(item, str):
        key, _, value = item.partition("=")
        yield [item]  # put together from several words
        pieces = item.split()
        if len(pieces) > 1 and all(map(is_override, pieces)):  # one pair of quotes around all of them
            yield pieces
        if value.startswith("="):
            yield [f"{key}={value.lstrip('=')}"]
        if value.endswith(","):
            yield [f"{key}={value.rstrip(',')}"]
        if "=" in value:
            yield [f"{key}='{value}'"]
        yield from _pathlike(key, value)
        yield from _named(typed, key.lstrip("+~"), value)
    elif item[0]:
        name, value_or_none = item
        yield from _pathlike(name, value_or_none or "")
        yield from _named(typed, name, value_or_none)
    else:
        yield from _bare(typed, str(item[1]), used)


def _pathlike(key: str, value: str) -> Iterator[list[str]]:
    """A folder or a file in place of a choice."""
    place = key.rpartition("@")[2]
    leaf = place.rpartition(".")[2]
    if not ("/" in value or value in (".", "..") or value.endswith((*WEIGHTS, *TABLES))):
        return
    if leaf == "dataset" and value.endswith(TABLES):
        yield [f"{place}=text", f"{place}.root={value}"]
    elif leaf == "dataset":
        yield [f"{place}=image_folder", f"{place}.root={value}"]
    elif leaf in ("teacher", "generalist", "member") and value.endswith(WEIGHTS):
        yield [f"{place}=checkpoint", f"{place}.path={value}", f"{place}.model=cnn"]
    elif leaf in ("teacher", "generalist"):
        yield [f"{place}=artifact", f"{place}.path={value}"]
    if leaf == "generalist":
        yield ["teacher=specialists", f"{place}=artifact", f"{place}.path={value}"]


def _named(typed: Words, name: str, value: str | None) -> Iterator[list[str]]:
    """`name` as a key: by itself, as the last part of one, or as a group's name."""
    negated = re.sub("^no[-_]", "", name)
    if value is None and negated != name:
        name, value = negated, "false"
    plain = _plain(name)
    if plain in ("gpu", "cuda", "cpu", "mps", "use_cuda") and "device" in typed.known:
        yield [f"device={value if value and value.startswith('cuda:') else 'cpu' if plain == 'cpu' else 'cuda'}"]
    if typed.command in BARE and plain in ("path", "folder", "dir", "root", "run") and value:
        yield [f"{BARE[typed.command][0]}={value}"]
    *above, leaf = plain.split(".")
    leaves = SEVERAL.get(leaf, (leaf, *([MEANT[leaf]] if leaf in MEANT else [])))
    for meant in leaves:
        wanted = [*above, *meant.split(".")]
        yield from _group(typed, wanted, value)
        for key in _near(typed, wanted):
            yield from ([f"{key}={_fit(value, typed.known[key])}"] for _ in [0] if _fit(value, typed.known[key]))
        for choice, key in _elsewhere(typed, wanted):
            yield [choice, f"{key}={_fit(value, None)}"]
        if above and above[0] in ("student", "distill", "train"):  # `student.augment`, `student.seed`
            yield from (new for new in _named(typed, meant, value) if "teacher" not in new[0])


def keys_of(typed: Words, name: str) -> list[str]:
    """Return the keys that a name may stand for, the likeliest first."""
    *above, leaf = _plain(name).split(".")
    return [key for meant in SEVERAL.get(leaf, (leaf, MEANT.get(leaf, leaf))) for key in _near(typed, [*above, meant])]


def groups_of(typed: Words, name: str) -> list[tuple[str, str]]:
    """Return the places that a group's name may stand for, each with the group."""
    *above, leaf = _plain(name).split(".")
    group = MEANT.get(leaf, leaf)
    if group not in (*schema.GROUPS, "recipe") or (group in ("dataset", "teacher") and not above):
        return []
    return [(place, group) for place in _near(typed, [*above, "train" if group == "recipe" else group])]


def _near(typed: Words, wanted: Sequence[str]) -> list[str]:
    return sorted((key for key in typed.known if _within(wanted, key.split("."))), key=_likeliness)


def _likeliness(key: str) -> tuple[bool, bool, int]:
    return not key.startswith("student"), key.startswith("teacher"), key.count(".")


def _within(wanted: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether the parts hold those wanted in this order, and end alike."""
    left = iter(parts)
    return parts[-1] == wanted[-1] and all(part in left for part in wanted)


def _fit(value: str | None, now: Any) -> str:
    """A value as the key has it: `true` for a switch, brackets around a list."""
    if value is None:
        held = now._value() if hasattr(now, "_value") else now
        return "true" if isinstance(held, bool) else ""
    if isinstance(now, ListConfig) and not value.startswith(("[", "$")) and value != "null":
        return f"[{value.strip('()')}]"
    return value


def _group(typed: Words, wanted: Sequence[str], value: str | None) -> Iterator[list[str]]:
    """`optimizer=adam` → `student.train.optimizer=adam`."""
    for place, group in groups_of(typed, ".".join(wanted)) if value else []:
        there = choices(group, typed.own)
        right = next((name for name in there if name == str(value).lower()), None)
        for name in [right] if right else get_close_matches(str(value).lower(), there, n=1, cutoff=0.7):
            yield [f"{place}={name}"]


def _elsewhere(typed: Words, wanted: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Another choice that has the key: `teacher.size` is one of teacher=ensemble."""
    *above, leaf = wanted
    for place in [".".join(above)] if above else ["dataset", "teacher"]:
        group = group_of(place) or place
        for name in sorted(choices(group, typed.own), key=lambda name: leaf == "root" and name != "image_folder"):
            for folder in (CONFIGS, *typed.own):
                file = folder / group / f"{name}.yaml"
                if place and file.is_file() and leaf in (yaml.safe_load(file.read_text()) or {}):
                    yield f"{place}={name}", f"{place}.{leaf}"


def _bare(typed: Words, word: str, used: Sequence[str]) -> Iterator[list[str]]:
    """A word by itself: a switch, a choice, a file."""
    taken = [*used, *(override.partition("=")[0] for override in typed.fitting)]
    if ":" in word and word.partition(":")[0] in typed.known:
        yield ["=".join(word.split(":", 1))]
    if word.lower() in ("yes", "y", "force") and "yes" in typed.known:
        yield ["yes=true"]
    elif word in typed.known and _fit(None, typed.known[word]):
        yield [f"{word}=true"]
    for key, values in (
        ("format", schema.FORMATS.get(typed.command, ())),
        ("split", ("train", "validation", "transfer", "test")),
        ("device", schema.DEVICES),
    ):
        if key in typed.known and key not in taken and word in values:
            yield [f"{key}={word}"]
    if typed.command in BARE:
        free = [key for key in BARE[typed.command] if key not in taken]
        if "images" in free and PICTURE.fullmatch(word):
            free = ["images"]
        elif "texts" in free and word.lower().endswith((".txt", *TABLES)):
            free = ["texts"]
        yield from ([f"{key}={word}"] for key in free[:1])
        return
    for group in ("dataset", "student", "teacher", "objective", "experiment"):
        if group in (*typed.known, "experiment") and group not in taken and word in choices(group, typed.own):
            yield [f"{group}={word}"]
    if word in choices("model", typed.own) and "student" in typed.known:
        yield [f"student.model={word}"]
    if word in choices("optimizer", typed.own) or word in choices("augment", typed.own):
        yield from _group(typed, ["optimizer" if word in choices("optimizer", typed.own) else "augment"], word)
    if "/" in word or word in (".", ".."):
        yield from _pathlike("dataset", word)
