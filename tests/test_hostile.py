"""Folders from a stranger, whose digests agree: each ends in one ArtifactError. Nothing of them is executed, nothing is
written or fetched, no memory is taken for what they claim, and nothing waits for ever.
"""

import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from running import TINY, Outcome, inside, seal
from safetensors.torch import load_file, save, save_file

import kd_cli
from kd_cli.errors import ArtifactError
from kd_cli.models.pretrained import torchvision
from kd_cli.store.artifacts import REBUILD, open_artifact
from kd_cli.store.models import stored_node
from kd_cli.targets.soft_targets import SoftTargets
from kd_cli.teachers.checkpoint import read_state_dict
from kd_cli.teachers.specialists.network import Specialist

CPU = torch.device("cpu")
WATCHED = {
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "socket.getaddrinfo",
    "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.putenv", "shutil.rmtree", "pickle.find_class",
    "webbrowser.open", "ctypes.dlopen",
}  # fmt: skip
happened: list[str] | None = None  # while a stranger's folder is read


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if happened is not None:
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if event in WATCHED or writes:
            happened.append(f"{event} {arguments}")


sys.addaudithook(watch)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    done = inside("distill", *TINY, "targets.top_k=3", "baseline=false", cwd=tmp_path_factory.mktemp("made"))
    assert done.status == 0, done.err
    kd_cli.load(done.run)
    importlib.import_module("torchvision")  # opens libraries
    return done


@pytest.fixture
def outputs(made: Outcome, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.run.parents[1], tmp_path / "outputs"))


@pytest.fixture
def student(made: Outcome, outputs: Path) -> Path:
    return outputs / made.result["student"]["artifact"]


@pytest.fixture
def targets(made: Outcome, outputs: Path) -> Path:
    return outputs / made.result["stages"]["soft_targets"]["artifact"]


@pytest.fixture
def watched(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Little more memory than there is now, an end to waiting, and nothing done that is watched."""
    global happened

    def waits(*_: Any) -> None:
        raise AssertionError("it waits for ever")

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("KD_SECRET", "0.123")
    limits, before = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, waits)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 30), limits[1]))
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    resource.setrlimit(resource.RLIMIT_AS, limits)
    assert list((tmp_path / "here").iterdir()) == []


def refused(read: Callable[[], Any]) -> str:
    """The one message that reading ends in."""
    global happened
    happened = []
    try:
        with pytest.raises(ArtifactError) as refusal:
            read()
        assert happened == []
    finally:
        happened = None
    assert len(str(refusal.value)) < 2000
    return str(refusal.value)


def put(folder: Path, name: str, content: bytes) -> None:
    """Replaces a file and makes the manifest agree."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    seal(folder, manifest)


def configure(folder: Path, **changes: Any) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    put(folder, "config.yaml", json.dumps({**config, **changes}).encode())


MLP = {"_target_": "kd_cli.models.mlp.mlp", "_partial_": True}
TORCHVISION = {"_target_": "kd_cli.models.pretrained.torchvision", "_partial_": True}
TARGETS = [
    "os.system",
    "builtins.exec",
    "posix.system",
    "functools.partial",
    "subprocess.run",
    "hydra.utils.call",
    "torch.load",
    "torch.nn.modules.module.warnings.warn",
    "torch.nn.modules.module.functools.partial",
    "torch.nn.modules.module.torch.load",
    "torch.nn.functional.importlib.import_module",
    "torch.nn.init.kaiming_normal_",
    "torch.nn.utils.skip_init",
    "torch.nn.utils.parametrize.register_parametrization",
    "kd_cli.models.mlp.nn.utils.skip_init",
    "kd_cli.models.mlp.dense",
    "kd_cli.models.pretrained._hub_folder",
    "kd_cli.models.pretrained._Fitted",
    "kd_cli.models.pretrained.first_line",
    "kd_cli.datasets.mnist.mnist",
    "kd_cli.datasets.cifar.cifar10",
    "kd_cli.store.models.load",
    "torchvision.models.get_model",
    "torchvision.models.get_weight",
    "torchvision.models.list_models",
    "torchvision.models._utils.IntermediateLayerGetter",
    "torchvision.models._api.load_state_dict_from_url",
    "torchvision.models.resnet.load_state_dict_from_url",
    "torchvision.models.detection.fasterrcnn_resnet50_fpn",
    "torchvision.models.no_such_thing",
    "torch.nn..Linear",
    "torch.nn.Linear.__init__.__globals__",
    "kd_cli.models.mlp.mlp.__globals__",
    "kd_cli.models",
    "torch.nn",
]


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("place", ["model", "argument"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_name_that_is_no_network_is_not_called(target: str, place: str, student: Path) -> None:
    evil = {"_target_": target, "_partial_": place == "argument", "name": "resnet18", "weights": "DEFAULT"}
    configure(student, model=evil if place == "model" else {**MLP, "widths": [{"deeper": evil}]})
    assert f"names {target!r}, which may not be built" in refused(lambda: kd_cli.load(student))


HUGE = 10**9
MODELS: dict[str, Any] = {
    "arguments by position": {**MLP, "_args_": [10, [1, 8, 8]]},
    "not recursive": {**MLP, "_recursive_": False},
    "converted": {**MLP, "_convert_": "all"},
    "the environment": {**MLP, "dropout": "${oc.env:KD_SECRET}"},
    "the environment in a key": {**MLP, "${oc.env:KD_SECRET}": 1},
    "a resolver": {**MLP, "widths": ["${oc.decode:'64'}"]},
    "another key": {**MLP, "widths": [64], "dropout": "${model.widths}"},
    "a missing value": {**MLP, "widths": "???"},
    "weights to download": {"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"},
    "weights to download, as they were once": {"_target_": "torchvision.models.resnet18", "pretrained": True},
    "weights to download, deeper": {**MLP, "widths": {"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"}},
    "no such weights": {**TORCHVISION, "name": "resnet18", "weights": "../../evil"},
    "no such network": {**TORCHVISION, "name": "get_model"},
    "a wide layer": {**MLP, "widths": [HUGE]},
    "two wide layers": {**MLP, "widths": [10**6, 10**6]},
    "a width without an end": {**MLP, "widths": [10**400]},
    "many layers": {**MLP, "widths": [1] * 10_000},
    "a deep network": {"_target_": "kd_cli.models.resnet.resnet", "depth": 6 * HUGE + 2},
    "another deep network": {"_target_": "kd_cli.models.wrn.wrn", "depth": 6 * HUGE + 4, "widen": 1},
    "a wide network": {"_target_": "kd_cli.models.wrn.wrn", "depth": 16, "widen": 10**6},
    "a layer as an argument": {
        **MLP,
        "widths": {"_target_": "torch.nn.Linear", "in_features": HUGE, "out_features": 9},
    },
    "a negative width": {**MLP, "widths": [-1]},
    "no numbers": {**MLP, "widths": [float("nan")]},
    "a word": "mlp",
    "nothing to build": {"widths": [64]},
    "another network": {**MLP, "widths": [65]},
    "no network of images": {"_target_": "torch.nn.Identity"},
}


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_not_the_stored_one_is_not_built(name: str, student: Path) -> None:
    configure(student, model=MODELS[name])
    assert "0.123" not in refused(lambda: kd_cli.load(student))


def bomb(levels: int = 12) -> str:
    """Nine times nine times … of the first list."""
    lines = ["l0: &l0 [a, a, a, a, a, a, a, a, a]"]
    lines += [f"l{k}: &l{k} [{', '.join([f'*l{k - 1}'] * 9)}]" for k in range(1, levels)]
    return "\n".join([*lines, f"model: *l{levels - 1}"])


YAML = {
    "a tag of Python": "model: !!python/object/apply:os.mkdir [executed]",
    "a name of Python": "model: !!python/name:os.system",
    "an alias": "classes: &a [a]\ninput_shape: [1, 8, 8]\nmodel: *a",
    "an alias to itself": "model: &a [*a]",
    "a billion laughs": bomb(),
    "merged keys": "\n".join(["a: &a {x: 1}", *(f"b{k}: &b{k} {{<<: [{', '.join(['*a'] * 9)}]}}" for k in range(9))]),
    "depth": "model: " + "[" * 100_000,
    "balanced depth": "model: " + "[" * 500 + "]" * 500,
    "size": "# " + "x" * (1 << 23),
    "other bytes": "model: \x00",
    "two documents": "a: 1\n---\nb: 2",
    "keys that are no words": json.dumps({"classes": list("ab"), "input_shape": [1, 8, 8]})[:-1] + ", model: {1: 2}}",
    "bytes": "classes: [a]\ninput_shape: [1, 8, 8]\nmodel: {_target_: kd_cli.models.mlp.mlp, widths: !!binary YQ==}",
    "a date": "classes: [a]\ninput_shape: [1, 8, 8]\nmodel: {_target_: kd_cli.models.mlp.mlp, widths: 2020-01-01}",
    "large images": "classes: [a]\ninput_shape: [1, 1000000, 1000000]\nmodel: {_target_: kd_cli.models.cnn.cnn}",
    "a number without an end": "classes: [a]\ninput_shape: [1, 8, .inf]\nmodel: {_target_: kd_cli.models.cnn.cnn}",
}


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", YAML)
def test_a_config_that_is_a_trap_is_not_followed(name: str, student: Path) -> None:
    put(student, "config.yaml", YAML[name].encode())
    refused(lambda: kd_cli.load(student))


class Evil:
    """Its pickle makes a folder when it is loaded."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("executed",)


def pickled(folder: Path) -> bytes:
    torch.save(Evil(), folder / "evil")
    return (folder / "evil").read_bytes()


def file_of(header: Any, body: bytes = b"", size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def headers(name: str) -> dict[str, bytes]:
    """Safetensors files of a tensor `name` that are none."""
    return {
        "empty": b"",
        "a length alone": struct.pack("<Q", 100),
        "a length of all bytes": file_of({}, size=2**64 - 1),
        "a length of a gigabyte": file_of({}, b" " * 100, size=1 << 30),
        "no JSON": file_of(b"{" * 50),
        "depth": file_of(b'{"a":' * 100_000),
        "a list": file_of([]),
        "no entry": file_of({name: 3}),
        "many elements": file_of({name: entry(shape=[10**12], offsets=[0, 4 * 10**12])}),
        "more than can be counted": file_of({name: entry(shape=[2**40, 2**40], offsets=[0, 8])}, b"x" * 8),
        "past the end": file_of({name: entry(offsets=[0, 8])}, b"x" * 4),
        "before the start": file_of({name: entry(offsets=[-8, 0])}, b"x" * 8),
        "backwards": file_of({name: entry(offsets=[8, 0])}, b"x" * 8),
        "overlapping": file_of({name: entry(), "b": entry(offsets=[4, 12])}, b"x" * 12),
        "a hole": file_of({name: entry(), "b": entry(offsets=[12, 20])}, b"x" * 20),
        "a shape that is not the size": file_of({name: entry(shape=[3])}, b"x" * 8),
        "a negative shape": file_of({name: entry(shape=[-2])}, b"x" * 8),
        "a shape of NaN": file_of(json.dumps({name: entry(shape=[float("nan")])}).encode(), b"x" * 8),
        "a shape of halves": file_of({name: entry(shape=[0.5])}, b"x" * 8),
        "no shape": file_of({name: entry(shape=None)}, b"x" * 8),
        "an unknown type": file_of({name: entry(dtype="PICKLE")}, b"x" * 8),
        "bytes behind": file_of({name: entry()}, b"x" * 9),
    }


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", headers("a"))
def test_weights_with_a_false_header_are_not_read(name: str, student: Path) -> None:
    put(student, "model.safetensors", headers("0.mean")[name])
    assert "model.safetensors" in refused(lambda: kd_cli.load(student))


WEIGHTS: dict[str, Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]] = {
    "another type": lambda state: {name: value.double() for name, value in state.items()},
    "whole numbers": lambda state: {name: value.long() for name, value in state.items()},
    "one missing": lambda state: dict(list(state.items())[1:]),
    "one too many": lambda state: {**state, "more": torch.zeros(1)},
    "another shape": lambda state: {name: value[None] for name, value in state.items()},
    "other names": lambda state: {f"x.{name}": value for name, value in state.items()},
    "none": lambda state: {},
}


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_another_network_are_not_loaded(name: str, student: Path) -> None:
    put(student, "model.safetensors", save(WEIGHTS[name](load_file(student / "model.safetensors"))))
    assert "holds weights that do not fit its config" in refused(lambda: kd_cli.load(student))


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml"])
def test_a_pickle_under_another_name_is_not_loaded(name: str, student: Path) -> None:
    put(student, name, pickled(student))
    refused(lambda: kd_cli.load(student))


def name_in_manifest(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["config.yaml"]
    seal(folder, manifest)


def replace_by(make: Callable[[Path, Path], None], name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).rename(folder.parent / "moved")
        make(folder / name, folder.parent / "moved")

    return change


def forget(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["files"][name]
        seal(folder, manifest)

    return change


FOLDERS: dict[str, Callable[[Path], None]] = {
    **{
        f"the name {name[:20]!r}": lambda folder, name=name: name_in_manifest(folder, name)  # type: ignore[misc]
        for name in ("../x", "..", ".", "", "/etc/passwd", "a/b", "a\0b", "x" * 300, "/", "\udcff", "../outputs/../x")
    },
    **{
        f"{what} in place of {name}": replace_by(make, name)
        for name in ("model.safetensors", "config.yaml", "manifest.json")
        for what, make in (
            ("a link", lambda path, moved: path.symlink_to(moved)),
            ("a link to a device", lambda path, moved: path.symlink_to("/dev/zero")),
            ("a link to itself", lambda path, moved: path.symlink_to(path.name)),
            ("a pipe", lambda path, moved: os.mkfifo(path)),
            ("a folder", lambda path, moved: path.mkdir()),
            ("a link to a folder", lambda path, moved: path.symlink_to(path.parent, target_is_directory=True)),
        )
    },
    "no weights": forget("model.safetensors"),
    "no config": forget("config.yaml"),
    "a large manifest": lambda folder: (folder / "manifest.json").write_bytes(b" " * (1 << 25)),
    "a deep manifest": lambda folder: (folder / "manifest.json").write_bytes(b'{"files":' * 100_000),
}


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", FOLDERS)
def test_a_manifest_leads_nowhere_else(name: str, student: Path) -> None:
    FOLDERS[name](student)
    refused(lambda: kd_cli.load(student))


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml"])
def test_a_pipe_that_no_manifest_names_is_not_opened(name: str, student: Path, watched: None) -> None:
    forget(name)(student)
    (student / name).unlink()
    os.mkfifo(student / name)
    refused(lambda: kd_cli.load(student))


# Soft targets.


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("file", ["logits-00000.safetensors", "samples.safetensors"])
@pytest.mark.parametrize("name", headers("a"))
def test_targets_with_a_false_header_are_not_mapped(name: str, file: str, targets: Path) -> None:
    put(targets, file, headers("logits" if file.startswith("logits") else "index")[name])
    assert file in refused(lambda: SoftTargets(open_artifact(targets), CPU))


LOGITS: dict[str, Callable[[dict[str, torch.Tensor]], None]] = {
    "no logits": lambda rows: rows.pop("logits"),
    "no classes": lambda rows: rows.pop("classes"),
    "one too many": lambda rows: rows.update(more=torch.zeros(1)),
    "whole logits": lambda rows: rows.update(logits=rows["logits"].int()),
    "classes of another type": lambda rows: rows.update(classes=rows["classes"].float()),
    "classes that there are not": lambda rows: rows["classes"].fill_(10),
    "negative classes": lambda rows: rows["classes"].fill_(-1),
    "fewer rows": lambda rows: rows.update({name: value[:-1] for name, value in rows.items()}),
    "fewer rows of one": lambda rows: rows.update(rest=rows["rest"][:-1].clone()),
    "flat": lambda rows: rows.update(logits=rows["logits"].flatten()),
    "no columns": lambda rows: rows.update(
        logits=rows["logits"][:, :0].clone(), classes=rows["classes"][:, :0].clone()
    ),
    "a scalar": lambda rows: rows.update(logits=torch.tensor(1.0)),
}


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", LOGITS)
def test_targets_of_another_form_are_not_read(name: str, targets: Path) -> None:
    rows = load_file(targets / "logits-00000.safetensors")
    LOGITS[name](rows)
    put(targets, "logits-00000.safetensors", save({key: value.contiguous() for key, value in rows.items()}))
    refused(lambda: SoftTargets(open_artifact(targets), CPU))


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(
    "stated",
    [{"classes": "10"}, {"classes": None}, {"temperatures": 4}, {"temperatures": ["4"]}, {"temperatures": [{}]}],
)
def test_a_manifest_of_targets_that_states_nonsense(stated: dict[str, Any], targets: Path) -> None:
    seal(targets, {**json.loads((targets / "manifest.json").read_text()), **stated})
    refused(lambda: SoftTargets(open_artifact(targets), CPU, 4.0))


# The commands.


def test_targets_with_fewer_views_than_asked_for_are_not_used(tmp_path: Path) -> None:
    words = ("distill", *TINY, "baseline=false", "augment@transfer.augment=jitter", "transfer.views=2")
    folder = Path(inside(*words, cwd=tmp_path).run.parents[1], "soft_targets")
    (targets,) = folder.iterdir()
    forget("logits-00001.safetensors")(targets)
    done = inside(*words, "seed=1", cwd=tmp_path)
    assert (done.status, done.out, "Traceback" in done.err) == (1, "", False)
    assert done.err.splitlines()[-1] == f"{targets} holds 1 views instead of 2. {REBUILD}"


def test_a_teacher_in_the_store_with_other_weights_is_not_used(made: Outcome, outputs: Path, tmp_path: Path) -> None:
    teacher = outputs / made.result["teacher"]["artifact"]
    save_file({"weight": torch.zeros(1)}, teacher / "model.safetensors")
    put(teacher, "model.safetensors", (teacher / "model.safetensors").read_bytes())
    done = inside("distill", *TINY, cwd=tmp_path)
    assert (done.status, done.out, "Traceback" in done.err) == (1, "", False)
    assert done.err.splitlines()[-1].startswith(f"{teacher} holds weights that do not fit its config")


@pytest.mark.parametrize(
    "dataset",
    [
        {"_target_": "kd_cli.models.mlp.mlp"},
        {"_target_": "kd_cli.datasets.mnist._download", "folder": "MNIST", "root": "executed"},
        {"_target_": "kd_cli.datasets.image_folder.Path", "_args_": ["executed"]},
        {"_target_": "kd_cli.datasets.mnist.mnist", "root": "executed"},
        {"_target_": "kd_cli.datasets.digits.digits", "seed": {"_target_": "kd_cli.datasets.mnist.mnist", "root": "e"}},
        {"_target_": "kd_cli.datasets.mnist.mnist", "root": "${oc.env:HOME}"},
        {"root": "x"},
        "digits",
    ],
)
@pytest.mark.usefixtures("watched")
def test_a_stored_data_set_fetches_and_calls_nothing(dataset: Any, student: Path) -> None:
    configure(student, dataset=dataset)
    here = Path.cwd()
    done = inside("evaluate", f"path={student}", cwd=here)
    assert (done.status, done.out, "Traceback" in done.err) == (1, "", False), done.err
    assert done.err.count("\n") == 1
    assert list(here.iterdir()) == []


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(("name", "weights"), [("squeezenet1_1", "DEFAULT"), ("regnet_y_400mf", None)])
def test_a_network_of_torchvision_is_filled_with_its_own_weights_alone(name, weights, student, monkeypatch) -> None:
    """Published ones, which its training began with, are neither read nor downloaded."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("the published weights were fetched")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    network = torchvision(10, (1, 8, 8), name=name, weights=weights, fetch=False)
    put(student, "model.safetensors", save(network.state_dict()))
    configure(student, model={**TORCHVISION, "name": name, "weights": weights})
    loaded = kd_cli.load(student).model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())


# Checkpoints from elsewhere.


def zipped(path: Path, pickle: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as parts:
        for name, content in (("data.pkl", pickle), ("version", b"3\n"), ("byteorder", b"little")):
            parts.writestr(f"archive/{name}", content)


GIGABYTES = struct.pack("<i", 2 * HUGE)
BOMBS: dict[str, Callable[[Path], object]] = {
    "bytes by their number": lambda path: zipped(path, b"\x80\x02c__builtin__\nbytearray\n(J" + GIGABYTES + b"tR."),
    "the same, not zipped": lambda path: path.write_bytes(b"\x80\x02c__builtin__\nbytearray\n(J" + GIGABYTES + b"tR."),
    "zeros that are packed": lambda path: zipped(path, b"\0" * (1 << 24), zipfile.ZIP_DEFLATED),
    "a terabyte of nothing": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
    "a sparse tensor": lambda path: torch.save({"8.weight": torch.eye(3).to_sparse()}, path),
    "a tensor without memory": lambda path: torch.save({"8.weight": torch.zeros(9, device="meta")}, path),
}


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_checkpoint_takes_no_more_memory_than_it_has_bytes(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bomb.{suffix}"
    BOMBS[name](path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "teacher.path must be a" in refused(lambda: read_state_dict(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # kilobytes


@pytest.mark.parametrize("suffix", ["pt", "pth", "safetensors"])
@pytest.mark.parametrize(
    "make",
    [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()],
    ids=["a pipe", "a link to a device", "a folder"],
)
def test_what_is_no_file_is_not_read_as_a_checkpoint(make: Callable[[Path], None], suffix: str, tmp_path: Path) -> None:
    make(tmp_path / f"x.{suffix}")
    with pytest.raises(ArtifactError, match="no file"):
        read_state_dict(tmp_path / f"x.{suffix}")


# Sizes.


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml", "history.jsonl"])
def test_nobody_waits_for_the_digest_of_a_terabyte_of_nothing(name: str, student: Path) -> None:
    os.truncate(student / name, 1 << 40)
    manifest = json.loads((student / "manifest.json").read_text())
    manifest["files"][name]["bytes"] = 1 << 40
    seal(student, manifest)
    refused(lambda: kd_cli.load(student))


@pytest.mark.parametrize("kind", ["teacher", "student", "soft_targets"])
def test_nor_does_a_run_that_finds_it(kind: str, made: Outcome, outputs: Path, tmp_path: Path) -> None:
    folder = outputs / made.result["stages"][kind]["artifact"]
    name = "logits-00000.safetensors" if kind == "soft_targets" else "model.safetensors"
    os.truncate(folder / name, 1 << 40)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name]["bytes"] = 1 << 40
    seal(folder, manifest)
    done = inside("distill", *TINY, "targets.top_k=3", "baseline=false", cwd=tmp_path)
    assert (done.status, "Traceback" in done.err) == (1, False)
    assert done.err.splitlines()[-1] == f"{folder} holds more than what is wanted of it can take. {REBUILD}"


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", ["regnet_y_128gf", "vit_h_14", "vgg19"])
def test_a_large_network_of_torchvision_is_not_built_for_a_small_file(name: str, student: Path) -> None:
    configure(student, model={**TORCHVISION, "name": name, "weights": None})
    assert "holds weights that do not fit its config" in refused(lambda: kd_cli.load(student))


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("fetch", [{}, {"fetch": True}])
def test_a_network_within_another_fetches_nothing(depth: int, fetch: dict[str, bool], student, monkeypatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("the published weights were fetched")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    model = {**TORCHVISION, "name": "squeezenet1_1", "weights": "DEFAULT", **fetch}
    network = torchvision(10, (1, 8, 8), name="squeezenet1_1", weights="DEFAULT", fetch=False)
    for _ in range(depth):
        inner = network
        model = {"_target_": "kd_cli.teachers.specialists.network.Specialist", "network": {**model, "_partial_": True}}
        network = Specialist(10, (1, 8, 8), lambda inner=inner, **_: inner)
    put(student, "model.safetensors", save(network.state_dict()))
    configure(student, model=model)
    loaded = kd_cli.load(student).model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())
    inner = stored_node(student)
    for _ in range(depth):
        inner = inner["network"]
    assert inner["fetch"] is False, "nor does a specialist that starts from it"


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("key", ["weights", "weights_backbone", "pretrained", "pretrained_backbone"])
@pytest.mark.parametrize("name", ["resnet18", "resnet.resnet18", "googlenet"])
@pytest.mark.parametrize("trusted", [[], ["torchvision"]], ids=["", "trusted"])
def test_a_builder_of_torchvision_within_another_network_is_refused_with_weights(key, name, trusted, student) -> None:
    builder = {"_target_": f"torchvision.models.{name}", "_partial_": True, key: "DEFAULT"}
    specialist = "kd_cli.teachers.specialists.network.Specialist"
    configure(student, model={"_target_": specialist, "network": {"_target_": specialist, "network": builder}})
    with pytest.raises(ArtifactError, match=r"with weights to download: a stored model has its own\.$"):
        kd_cli.load(student, trusted)
