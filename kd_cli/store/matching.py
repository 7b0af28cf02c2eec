"""Which tensor of a file from elsewhere belongs where in a network: by its name, whatever is written before it."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from torch import Tensor, nn

from kd_cli.errors import ArtifactError
from kd_cli.store.public_names import as_ours, without_projections

# What torch's own wrappers put before a name, or amid it where a part of a network was wrapped.
WRAPPERS = re.compile(r"\b(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# What a training script calls the network in it; the first that fits is taken where several do.
USUAL = ("", "model.", "network.", "net.", "backbone.", "student.")
LEADING = re.compile(r"((model|network|net|backbone|encoder|base_model)\.)+")
# A counter that older torch did not write, those of a profiler, and of torch's averaging: they change no answer.
NO_WEIGHTS = re.compile(r"(.*\.)?(num_batches_tracked|total_ops|total_params|n_averaged)")
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")  # torchvision's files still have the dot
SHOWN = 20  # names of a kind in a refusal

Names = dict[str, str]  # ours → theirs


@dataclass(frozen=True)
class Match:
    """The tensors for a network by its names, and what does not fit: names of ours that are `missing` and have another
    shape or kind (`shapes`), names of theirs that are `unexpected`, or `outside` of the network. `head` are those of
    ours that differ by the number of classes alone.
    """

    tensors: dict[str, Tensor]
    missing: list[str]
    unexpected: list[str]
    outside: list[str]
    head: list[str]
    shapes: list[str]


def match(network: nn.Module, state: Mapping[str, Tensor], classes: int) -> Match:
    """Return how `state` fills a network with `classes` outputs. What stands before its names is found out; the input
    normalisation may be missing. Raises ArtifactError where several networks in it fit.
    """
    ours: dict[str, Tensor] = network.state_dict()
    needed = {name for name in ours if name.rpartition(".")[2] not in ("mean", "std")}
    names = max(_views(sorted(needed), state), key=lambda view: len(needed & view.keys()), default={})
    tensors = {name: state[theirs] for name, theirs in names.items() if name in ours}
    missing = sorted(name for name in needed - names.keys() if not NO_WEIGHTS.fullmatch(name))
    made = without_projections(missing, ours)
    missing = [name for name in missing if name not in made]
    different = [name for name in sorted(tensors) if not _alike(tensors[name], ours[name])]
    head = _head(different, tensors, ours, classes)
    return Match(
        tensors | made,
        missing,
        sorted(theirs for name, theirs in names.items() if name not in ours and not NO_WEIGHTS.fullmatch(theirs)),
        sorted(name for name in state.keys() - set(names.values()) if not NO_WEIGHTS.fullmatch(name)),
        head,
        [name for name in different if name not in head],
    )


def misfit(found: Match, state: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> str:
    """Return every name that does not fit, as `missing: …; unexpected: …; of another shape: …`; "" where all do."""
    spare = {name: state[name] for name in found.unexpected}
    missing = [f"{name}{_nearest(name, ours[name], spare)}" for name in found.missing]
    shapes = [_versus(name, found.tensors[name], ours[name]) for name in sorted((*found.shapes, *found.head))]
    titled = (("missing", missing), ("unexpected", found.unexpected), ("of another shape", shapes))
    return "; ".join(f"{title}: {_listed(names)}" for title, names in titled if names)


def _views(needed: list[str], state: Mapping[str, Tensor]) -> Iterator[Names]:
    """Every way to read their names as ours, the plainest first."""
    yield {name: name for name in state}
    plain = {name: OLD_DENSENET.sub(r"\1", WRAPPERS.sub("", name)) for name in state}
    if len(set(plain.values())) < len(plain):  # two networks, of which one is wrapped
        plain = {name: name for name in state}
    first = f"{needed[0].partition('.')[0]}." if needed else ""
    shared = all(name.startswith(first) for name in needed)
    for before in ("", first) if shared else ("",):  # `network.` of one that resizes its inputs
        bare = {name.removeprefix(before) for name in needed}
        for prefix in _prefixes(plain.values(), bare):
            inside = {name: text.removeprefix(prefix) for name, text in plain.items() if text.startswith(prefix)}
            yield {before + text: name for name, text in inside.items()}
        stripped = {name: LEADING.sub("", text) for name, text in plain.items()}
        if len(set(stripped.values())) == len(stripped):
            yield {before + text: name for name, text in stripped.items()}
            known = as_ours(stripped.values(), bare)
            yield {before + known.get(text, text): name for name, text in stripped.items()}


def _prefixes(theirs: Collection[str], bare: set[str]) -> list[str]:
    """What may stand before our names in theirs, with most of them first; "" is always one."""
    counts = Counter({"": 0})
    for name in theirs:
        starts = [0, *(found.end() for found in re.finditer(r"\.", name))]
        counts.update(name[:start] for start in starts if name[start:] in bare)
    best = max(counts.values())
    several = [prefix for prefix, count in counts.items() if count == best]
    if best == len(bare) and len(several) > 1 and not set(several) & set(USUAL):
        listed = ", ".join(f"{prefix}…" for prefix in several)
        raise ArtifactError(f"It holds several networks that fit: {listed}.", "Save the tensors of one of them alone.")
    usual = {prefix: k for k, prefix in enumerate(USUAL)}
    return sorted(counts, key=lambda prefix: (-counts[prefix], usual.get(prefix, len(usual)), prefix))


def _alike(theirs: Tensor, ours: Tensor) -> bool:
    """Whether a tensor can be taken over; its precision may be another."""
    kinds = theirs.is_floating_point() == ours.is_floating_point() and theirs.is_complex() == ours.is_complex()
    return kinds and theirs.shape == ours.shape


def _head(different: list[str], theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], classes: int) -> list[str]:
    """Those of ours that differ from theirs by the number of outputs alone, all by the same one."""
    found = [
        name
        for name in different
        if ours[name].ndim and theirs[name].ndim == ours[name].ndim and ours[name].shape[0] == classes
        and theirs[name].shape[1:] == ours[name].shape[1:] and theirs[name].is_floating_point()
    ]  # fmt: skip
    return found if len({theirs[name].shape[0] for name in found}) == 1 else []


def _nearest(name: str, ours: Tensor, spare: Mapping[str, Tensor]) -> str:
    """` (fc.weight?)`: the name in the file that is most like ours, among those of the same shape if there are any."""
    same = [theirs for theirs, value in spare.items() if value.shape == ours.shape]
    close = get_close_matches(name, same, 1, 0.3) or get_close_matches(name, spare, 1, 0.6)
    return f" ({close[0]}?)" if close else ""


def _versus(name: str, theirs: Tensor, ours: Tensor) -> str:
    if theirs.shape == ours.shape:
        return f"{name} {theirs.dtype} instead of {ours.dtype}".replace("torch.", "")
    return f"{name} {list(theirs.shape)} instead of {list(ours.shape)}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
