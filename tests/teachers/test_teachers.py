import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kd_cli.data.spec import image_spec
from kd_cli.errors import ArtifactError, ConfigError
from kd_cli.models.mlp import mlp
from kd_cli.store.foreign_file import read_weights
from kd_cli.teachers.artifact import Stored
from kd_cli.teachers.checkpoint import Pretrained
from kd_cli.teachers.trained import Trained

SMALL = partial(mlp, widths=[6])
SPEC = image_spec((1, 4, 4))
DATASET = SimpleNamespace(name="animals", classes=("cat", "dog", "owl"), spec=SPEC, arguments=SPEC.arguments)
IMAGES = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def no_loader(path: Path) -> tuple[nn.Module, dict[str, object]]:
    raise AssertionError("only a stored teacher is loaded from a folder")


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(4)
    return SMALL(3, (1, 4, 4)).eval()


def source(path: Path, **arguments: object) -> Pretrained:
    return Pretrained(model=SMALL, path=str(path), **arguments)


def logits_of(teacher: Pretrained) -> torch.Tensor:
    return teacher.network(DATASET, no_loader).eval()(IMAGES).detach()


def as_safetensors(state, path: Path) -> Path:
    save_file(state, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def as_pt(state, path: Path, **arguments: object) -> Path:
    torch.save(state, path.with_suffix(".pt"), **arguments)
    return path.with_suffix(".pt")


WRITERS = {
    "safetensors": as_safetensors,
    "pt": as_pt,
    "legacy pt": partial(as_pt, _use_new_zipfile_serialization=False),
    "pth": lambda state, path: as_pt(state, path).rename(path.with_suffix(".pth")),
    "module. prefix": lambda state, path: as_pt({f"module.{name}": value for name, value in state.items()}, path),
    "state_dict": lambda state, path: as_pt({"state_dict": state, "epoch": 3}, path),
    "model": lambda state, path: as_pt({"model": state}, path),
    "model_state_dict with prefix": lambda state, path: as_pt(
        {"model_state_dict": {f"module.{name}": value for name, value in state.items()}, "best": 0.9}, path
    ),
    "safetensors with prefix": lambda state, path: as_safetensors(
        {f"module.{name}": value for name, value in state.items()}, path
    ),
    "half precision": lambda state, path: as_safetensors({name: value.half() for name, value in state.items()}, path),
}


@pytest.mark.parametrize("form", WRITERS)
def test_a_checkpoint_is_read_in_the_usual_forms(tmp_path, net, form):
    path = WRITERS[form](dict(net.state_dict()), tmp_path / "teacher")
    tolerance = {"atol": 1e-2, "rtol": 1e-2} if form == "half precision" else {"atol": 0, "rtol": 0}
    torch.testing.assert_close(logits_of(source(path)), net(IMAGES).detach(), **tolerance)


def test_the_normalisation_comes_from_the_config_where_the_checkpoint_has_none(tmp_path, net):
    state = {name: value for name, value in net.state_dict().items() if not name.endswith(("mean", "std"))}
    path = as_safetensors(state, tmp_path / "teacher")
    teacher = Pretrained(model=partial(SMALL, mean=[0.5], std=[0.25]), path=str(path))
    torch.testing.assert_close(logits_of(teacher), net((IMAGES - 0.5) / 0.25).detach())


def test_every_key_that_does_not_fit_is_listed(tmp_path, net):
    state = dict(net.state_dict())
    state["6.weight"] = torch.zeros(5, 6)
    state["extra.bias"] = state.pop("3.bias")
    state["another"] = state.pop("3.weight")
    path = as_safetensors(state, tmp_path / "teacher")
    with pytest.raises(ArtifactError) as refusal:
        logits_of(source(path))
    assert str(refusal.value) == (
        f"path={path} does not fit model. Keys missing: 3.bias (extra.bias?), 3.weight; unexpected: another, "
        "extra.bias; of another shape: 6.weight [5, 6] instead of [3, 6]."
    )


def test_a_checkpoint_that_does_not_fit_leaves_no_half_filled_network(tmp_path, net):
    state = dict(net.state_dict()) | {"another": torch.zeros(1)}
    with pytest.raises(ArtifactError, match=r"Keys unexpected: another\.$"):
        logits_of(source(as_safetensors(state, tmp_path / "teacher")))


class _Touch:
    """A pickle of it makes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("form", ["plain pickle", "zip", "legacy"])
def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path, form):
    path, ran = tmp_path / "evil.pt", tmp_path / "ran"
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(_Touch(ran)))
    else:
        torch.save({"weight": _Touch(ran)}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ArtifactError) as refusal:
        read_weights(path)
    assert str(refusal.value) == (
        "path must be a checkpoint that holds tensors alone (.safetensors, or .pt that loads with "
        f"weights_only=True), got {str(path)!r}, a pickle that would run code (io.open). "
        "Take weights that are saved as a state dict."
    )
    assert not ran.exists()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def damage_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other/data.pkl", b"")


@pytest.mark.parametrize("form", ["safetensors", "pt", "legacy pt"])
@pytest.mark.parametrize(
    "harm",
    [
        truncate,
        damage_zip,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"."),
        lambda path: path.write_bytes(b"\x80\x02."),
        lambda path: path.write_text("this is no checkpoint"),
        lambda path: path.write_bytes(path.read_bytes()[:1]),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 4]),
    ],
    ids=["truncated", "another zip", "empty", "a full stop", "an empty pickle", "text", "one byte", "a quarter"],
)
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, net, form, harm):
    path = WRITERS[form](dict(net.state_dict()), tmp_path / "teacher")
    harm(path)
    with pytest.raises(ArtifactError, match=r"^path must be a ") as refusal:
        read_weights(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "holds"),
    [
        ([torch.zeros(2)], ""),
        ({"a": 3}, ", which holds a"),
        (torch.zeros(2), ""),
        ({"state_dict": {"a": {}}}, ", which holds state_dict"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, holds):
    path = as_pt(content, tmp_path / "teacher")
    with pytest.raises(ArtifactError) as refusal:
        read_weights(path)
    assert str(refusal.value) == (
        f"path must be a state dict (names and tensors), got another format in {str(path)!r}{holds}."
    )


def test_a_missing_checkpoint_is_refused(tmp_path):
    path = tmp_path / "none.pt"
    with pytest.raises(ArtifactError) as refusal:
        read_weights(path)
    kinds = ".safetensors, .pt, .pth, .ckpt or .pth.tar"
    assert str(refusal.value) == (f"path must be a checkpoint ({kinds}), got {str(path)!r}, no file.")


def test_named_classes_put_the_logits_into_the_data_sets_order(tmp_path, net):
    path = as_safetensors(dict(net.state_dict()), tmp_path / "teacher")
    theirs = net(IMAGES).detach()  # in the order owl, cat, dog
    ours = logits_of(source(path, classes=["owl", "cat", "dog"]))
    assert torch.equal(ours, theirs[:, [1, 2, 0]])
    assert torch.equal(logits_of(source(path, classes=["cat", "dog", "owl"])), theirs)


def test_a_teacher_of_more_classes_gives_the_logits_of_the_data_sets(tmp_path):
    torch.manual_seed(0)
    net = SMALL(5, (1, 4, 4)).eval()
    path = as_safetensors(dict(net.state_dict()), tmp_path / "teacher")
    ours = logits_of(source(path, classes=["ant", "dog", "bee", "owl", "cat"]))
    assert torch.equal(ours, net(IMAGES).detach()[:, [4, 1, 3]])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            ["cat", "dog", "cow"],
            "classes must be a list that holds every class of dataset=animals, got ['cat', 'dog', 'cow']. "
            "Missing: ['owl'].",
        ),
        (
            ["cat", "dog", "owl", "cat"],
            "classes must be a list without repetition, got ['cat', 'dog', 'owl', 'cat'].",
        ),
    ],
)
def test_classes_that_do_not_cover_the_data_set_are_refused(tmp_path, net, classes, message):
    path = as_safetensors(dict(net.state_dict()), tmp_path / "teacher")
    with pytest.raises(ConfigError) as refusal:
        logits_of(source(path, classes=classes))
    assert str(refusal.value) == message


def test_a_stored_teacher_is_taken_as_it_is(net):
    asked: list[Path] = []

    def load(path: Path) -> tuple[nn.Module, dict[str, object]]:
        asked.append(path)
        return net, {"classes": DATASET.classes, "spec": DATASET.spec}

    assert Stored(path="outputs/teachers/abc").network(DATASET, load) is net
    assert asked == [Path("outputs/teachers/abc")]


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (
            {"classes": ("cat", "owl", "dog")},
            "the classes of dataset=animals, got 'x', whose classes is [cat, owl, dog]",
        ),
        ({"classes": ("cat", "dog")}, "the classes of dataset=animals, got 'x', whose classes is [cat, dog]"),
        (
            {"classes": tuple(map(str, range(12)))},
            "the classes of dataset=animals, got 'x', whose classes is [0, 1, 2, ",
        ),
        (
            {"spec": image_spec((3, 4, 4))},
            "the input shape of dataset=animals, got 'x', whose input shape is [3, 4, 4] ins",
        ),
    ],
    ids=["another order", "fewer classes", "other classes", "another shape"],
)
def test_a_stored_teacher_for_other_classes_or_images_is_refused(net, about, message):
    made_for = {"classes": DATASET.classes, "spec": DATASET.spec} | about
    with pytest.raises(ArtifactError) as refusal:
        Stored(path="x").network(DATASET, lambda path: (net, made_for))
    assert str(refusal.value).startswith(f"path must be a model with {message}")


def test_a_teacher_to_be_trained_is_built_for_the_data_set(recipe):
    network = Trained(model=SMALL, train=recipe()).network(DATASET, no_loader)
    assert network(IMAGES).shape == (5, 3)


@pytest.mark.parametrize("seed", [-1, True, 1.0, "0"])
def test_a_teachers_seed_outside_its_rule_is_refused(recipe, seed):
    with pytest.raises(ConfigError, match=r"^seed must be a whole number ≥ 0, got "):
        Trained(model=SMALL, train=recipe(), seed=seed)


@pytest.mark.parametrize("online", ["yes", 1, None])
def test_online_is_true_or_false(online):
    with pytest.raises(ConfigError) as refusal:
        Stored(path="x", online=online)
    shown = repr(online)
    assert str(refusal.value) == f"online must be true or false, got {shown}."
