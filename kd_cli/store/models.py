"""Reading models back: from a teacher's, a student's or a run's folder, whoever made it."""

import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kd_cli.build.identity import identity_of
from kd_cli.build.objects import build_stored
from kd_cli.build.trust import check_stored
from kd_cli.data.inputs import Inputs
from kd_cli.data.spec import Spec
from kd_cli.errors import ArtifactError, KdError, Phrase, first_line, reason
from kd_cli.progress import log
from kd_cli.store import run_folder
from kd_cli.store.artifacts import Artifact, read_artifact, verify
from kd_cli.store.blueprint import Shapes, without_memory
from kd_cli.store.fetching import is_torchvisions, without_fetching
from kd_cli.store.history import HISTORY, read_history
from kd_cli.store.stored_yaml import read_yaml
from kd_cli.store.tensor_header import LARGEST, Header, header_of

LARGEST_SAMPLE = 1 << 26  # numbers
EXTRA_STATE = "_extra_state"  # torch's name for what a part of a network stores beside its tensors
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True)
class Loaded:
    """A stored model in eval mode. Its `spec` says what it takes: `spec.to_network` makes it of stored samples, images
    of float32 in [0, 1], `[N, *input_shape]`. Its output are logits in the order of `classes`. `config` is the whole
    config that it was stored with.
    """

    model: nn.Module
    classes: tuple[str, ...]
    spec: Spec
    config: dict[str, Any]
    folder: Path

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of a sample; channels, height and width of an image."""
        return self.spec.shape

    @property
    def state_dict(self) -> dict[str, Tensor]:
        """Its weights by the names of the library that the network comes from, without what kd puts before it (size,
        normalisation): `torchvision.models.resnet18(num_classes=…).load_state_dict(…)` takes those of one.
        """
        inner = getattr(self.model, "network", None)
        network = inner if isinstance(inner, nn.Module) else self.model
        return {name: value.clone() for name, value in network.state_dict().items()}


def load(path: str | Path, trusted_modules: Sequence[str] = ()) -> Loaded:
    """Return the model in a folder of `teachers/` or `students/`, or the student of a run's folder.

    Nothing in the folder is executed: weights are safetensors, the config is plain YAML, and it may only name models of
    kd, torch.nn and torchvision.models, or of `trusted_modules`. Raises ArtifactError.
    """
    try:
        return _load(model_folder(Path(path)), trusted_modules)
    except (OSError, ValueError) as error:  # what cannot be a path, or may not be read
        got = Phrase(f"{str(path)!r}: {reason(error)}")
        raise ArtifactError.must(".path", "a folder that can be read", got) from error


def _load(folder: Path, trusted_modules: Sequence[str]) -> Loaded:
    """What is small is read first: nobody waits for the digests of weights that are not those of the network."""
    artifact = read_artifact(folder)
    where, weights = artifact.file("config.yaml"), artifact.file("model.safetensors")
    verify(artifact, [name for name in artifact.manifest["files"] if not name.endswith(".safetensors")])
    try:
        config = read_yaml(where)
        classes, spec = tuple(str(name) for name in config["classes"]), _spec(config)
        node = config["model"]
    except (*UNREADABLE, KdError, yaml.YAMLError) as error:
        said = f"{type(error).__name__}: {error}"
        raise ArtifactError(f"{where} does not describe a stored model ({said[:500]}).") from error
    if not isinstance(node, dict):
        raise ArtifactError(f"{where} does not describe a stored model: its model is {str(node)[:100]!r}.")
    check_stored(node, trusted_modules, where)
    _say_what_changed(config, node, where)

    def build() -> nn.Module:
        model: nn.Module = build_stored(without_fetching(node), len(classes), spec)
        if not isinstance(model, nn.Module):
            raise ArtifactError(f"{where} describes no network.")
        return model

    def built(shapes: AbstractContextManager[Any]) -> nn.Module:
        try:
            with shapes:
                return build()
        except (ArithmeticError, ValueError, KdError) as error:
            raise _misfit(artifact.folder, error) from error

    header = header_of(weights)
    # RegNets compute their widths with tensors, which must hold numbers while they are built.
    regnet = is_torchvisions(node.get("_target_")) and str(node.get("name")).startswith("regnet_")
    planned = built(without_memory(len(header), Shapes() if regnet else torch.device("meta")))
    _check_fit(header, planned, artifact.folder)
    known = _check_logits(planned, spec.blank(1, "meta"), len(classes), where)
    if weights.stat().st_size > _memory():
        raise _misfit(artifact.folder, "they are larger than this machine's memory")
    verify(artifact, [name for name in artifact.manifest["files"] if name.endswith(".safetensors")])
    model = built(nullcontext())
    load_weights(model, artifact)
    if not known and not _check_logits(model, spec.blank(1), len(classes), where):
        raise ArtifactError(f"{where} describes a network that fails on {spec}.")
    return Loaded(model.eval(), classes, spec, config, artifact.folder)


def _spec(config: dict[str, Any]) -> Spec:
    """What a stored model takes. Raises KdError and the like where its config does not say. One that was stored before
    there were other kinds takes images.
    """
    spec = Spec.of(config["spec"] if "spec" in config else {"kind": "image", "shape": config["input_shape"]})
    if spec.numbers > LARGEST_SAMPLE:
        raise ValueError(f"its input_shape is {list(spec.shape)}")
    return spec


def _check_logits(model: nn.Module, sample: Inputs, classes: int, where: Path) -> bool:
    """ArtifactError where a network gives something else than logits; False where it does not work on such a sample, as
    some do not in shape alone.
    """
    try:
        with torch.no_grad():
            made = model.eval()(sample)
    except Exception:  # a network may be anybody's
        return False
    if not isinstance(made, Tensor) or tuple(made.shape) != (1, classes):
        raise ArtifactError(f"{where} describes no network with logits for its {classes} classes.")
    return True


def _memory() -> float:
    """Bytes of this machine's memory, where it says how many."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf


def largest_of(model: nn.Module) -> int:
    """Return the most bytes that a file with this model's weights has."""
    return int(sum(value.nbytes for value in model.state_dict().values())) + LARGEST


def load_trained(model: nn.Module, artifact: Artifact) -> None:
    """Fill a model with the weights of a training; raise ArtifactError also where its history is none."""
    precision_of(artifact)
    history_of(artifact)
    load_weights(model, artifact)


def stored_node(path: Path) -> dict[str, Any]:
    """Return the config of the network in a folder that `load` has read: what it takes to build it, and nothing to
    fetch.
    """
    node: dict[str, Any] = without_fetching(trained_as(path))
    return node


def trained_as(path: Path) -> Any:
    """Return the config of the network in a folder that `load` has read, as it was when it was trained."""
    return read_yaml(model_folder(path) / "config.yaml")["model"]


def _say_what_changed(config: dict[str, Any], node: dict[str, Any], where: Path) -> None:
    """A network's own code may be another than it was trained with, and its weights fit none the less."""
    try:
        then = dict(config["identity"]["model"]["sources"])
        now = identity_of(node)["sources"]
    except (KeyError, TypeError, ValueError, KdError):  # none, or nothing to compare with
        return
    if changed := sorted(target for target in now if now[target] != then.get(target)):
        names = ", ".join(changed)
        log.warning("%s: the code of %s is not what the stored weights were trained with", where.parent, names)


def stored_weights(artifact: Artifact) -> dict[str, Tensor]:
    """Return an artifact's tensors, by name."""
    path = artifact.file("model.safetensors")
    header_of(path)
    try:
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except (SafetensorError, OSError) as error:
        raise _misfit(artifact.folder, error) from error


def load_weights(model: nn.Module, artifact: Artifact) -> None:
    """Fills a model with an artifact's weights; ArtifactError, and nothing changed, unless names, types and shapes
    agree and all of them are numbers.
    """
    path = artifact.file("model.safetensors")
    _check_fit(header_of(path), model, artifact.folder)
    try:
        state = load_file(path)
        if name := next(not_numbers(state, dict(model.named_parameters())), None):
            raise _misfit(artifact.folder, f"{name} holds what are no numbers")
        model.load_state_dict(state, strict=False)  # of tied tensors one is stored
    except (SafetensorError, RuntimeError, OSError) as error:
        raise _misfit(artifact.folder, error) from error


def not_numbers(state: Mapping[str, Tensor], learnt: Collection[str]) -> Iterator[str]:
    """Yield the names of tensors that hold NaN, and of those that are `learnt` and hold an infinity: a mask may."""
    for name, value in state.items():
        if value.is_floating_point() and not (value.isfinite() if name in learnt else ~value.isnan()).all():
            yield name


def history_of(artifact: Artifact) -> list[dict[str, float]]:
    """Return its epochs; ArtifactError where there are none."""
    path = artifact.file(HISTORY)
    try:
        epochs = read_history(path.read_text(encoding="utf-8"))
        if not epochs or [epoch["epoch"] for epoch in epochs] != list(range(1, len(epochs) + 1)):
            raise ValueError("it does not count its epochs")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} is no history ({first_line(error)[:200]}).") from error
    return epochs


def precision_of(artifact: Artifact) -> str:
    """Return the precision that it was computed in; ArtifactError where it does not say how it was."""
    environment = artifact.manifest.get("environment")
    if not isinstance(environment, dict) or not isinstance(environment.get("precision"), str):
        raise ArtifactError(f"{artifact.folder} does not say how it was computed.")
    return str(environment["precision"])


def _check_fit(header: Header, model: nn.Module, folder: Path) -> None:
    state = model.state_dict(keep_vars=True)
    stored = {id(state[name]) for name in header if name in state}  # of tied tensors one is stored
    for name in sorted({*header, *state}):
        if name not in state:
            raise _misfit(folder, f"{name} is not a tensor of the model")
        theirs, ours = header.get(name), (state[name].dtype, tuple(state[name].shape))
        if name.endswith(EXTRA_STATE) and theirs is not None and theirs[0] == ours[0] and len(theirs[1]) == 1:
            continue  # a tokenizer's bytes, as many as there are
        if theirs is None and id(state[name]) not in stored:
            raise _misfit(folder, f"{name} is missing")
        if theirs not in (None, ours):
            raise _misfit(folder, f"{name} is {theirs} instead of {ours}")


def _misfit(folder: Path, why: Exception | str) -> ArtifactError:
    said = why if isinstance(why, str) else first_line(why)
    return ArtifactError(f"{folder} holds weights that do not fit its config: {said[:500].rstrip('.')}.")


def model_folder(path: Path) -> Path:
    """Return the folder that holds the weights: the path itself, or the student (or teacher) that a run names."""
    if not path.is_dir():
        raise ArtifactError.must(".path", "a run folder or a folder of teachers/ or students/", str(path))
    content = run_folder.read(path)
    if content is None:
        return path
    try:
        named = next(content[m]["artifact"] for m in ("student", "teacher") if isinstance(content.get(m), dict))
        if named is None:  # an ensemble is no artifact itself
            raise KeyError("artifact")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, StopIteration) as error:
        got = Phrase(f"{str(path)!r}, whose result.json names no model")
        raise ArtifactError.must(".path", "a finished run", got) from error
    if folder := run_folder.artifact_of(path, content, str(named)):
        return folder
    raise ArtifactError(f"{{}}={path} names {named}, which is not there any more.", "", ".path")
