"""A teacher of one's own, as CONTRIBUTING.md says it is written: what it is, it states itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import TINY, Outcome, files_below, inside

from kd_cli.teachers.identity import Opaque, network_of, weights_of
from kd_cli.teachers.source import Single

SOURCE = '''
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from kd_cli.teachers.identity import file_of
from kd_cli.teachers.source import Single


class Answers(nn.Module):
    """What a session would answer: torch sees nothing of it."""

    def __init__(self, table):
        super().__init__()
        self.session = lambda images: images @ table

    def forward(self, images):
        return torch.from_numpy(self.session(images.flatten(1).cpu().numpy()))


@dataclass(frozen=True, kw_only=True)
class Table(Single):
    {key}: str
    model: str = "large"
    seed: str = "none"
    members: int = 1

    def network(self, dataset, load):
        return Answers(np.load(self.{key}))
'''
STATES = """
    def identity(self, network):
        return {"file": file_of(self.{key})}
"""
CHOICE = """
_target_: {module}.Table
{key}: a.npy
model: large # these keys mean what their teacher says
seed: none
members: 3
online: false
"""
MINE = ("--config-dir", "mine", TINY[1], "baseline=false")


def table(path: Path, seed: int) -> None:
    np.save(path, np.random.default_rng(seed).normal(size=(64, 10)).astype(np.float32))


def write(folder: Path, module: str, key: str = "file", states: str = STATES, source: str = SOURCE) -> None:
    """Writes the teacher, its choice, and two tables for it."""
    (folder / f"{module}.py").write_text((source + states).replace("{key}", key))
    (folder / "mine" / "teacher").mkdir(parents=True, exist_ok=True)
    (folder / "mine" / "teacher" / "mine.yaml").write_text(CHOICE.format(module=module, key=key))
    for seed, name in enumerate("abc"):
        table(folder / f"{name}.npy", seed)


def jobs(done: Outcome) -> dict[str, dict[str, Any]]:
    assert done.status == 0, done.err
    return {path.parent.name: json.loads(path.read_text()) for path in done.run.glob("*/result.json")}


OPENVINO = """
import numpy as np


class Core:
    def compile_model(self, file, device):
        table = np.load(file)
        return lambda images: [images.reshape(len(images), -1) @ table]
"""


def test_the_example_of_the_guide(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "plugins.md").read_text(encoding="utf-8")
    (source,) = [text for text in guide.split("```") if text.startswith("python") and "(Single)" in text]
    (tmp_path / "openvino.py").write_text(OPENVINO)
    (tmp_path / "my_teachers.py").write_text(source.partition("\n")[2])
    (tmp_path / "my_configs" / "teacher").mkdir(parents=True)
    choice = "_target_: my_teachers.OpenVino\nfile: ???\nonline: false\n"
    (tmp_path / "my_configs" / "teacher" / "openvino.yaml").write_text(choice)
    for seed, name in enumerate(("a.xml", "b.xml")):
        table(tmp_path / "table.npy", seed)
        (tmp_path / "table.npy").rename(tmp_path / name)
    words = ("--config-dir", "my_configs", "teacher=openvino", "teacher.file=a.xml,b.xml")
    first, second = jobs(inside("sweep", *words, *MINE[2:], cwd=tmp_path)).values()
    assert first["teacher"]["errors"] != second["teacher"]["errors"]


@pytest.mark.parametrize(
    ("key", "online"), [("file", "false"), ("address", "true"), ("path", "false"), ("name", "true")]
)
def test_two_of_them_are_two_teachers(key: str, online: str, tmp_path: Path) -> None:
    write(tmp_path, f"tabled_{key}_{online}", key)
    words = ("sweep", *MINE, "teacher=mine", f"teacher.{key}=a.npy,b.npy", f"teacher.online={online}")
    first, second = jobs(inside(*words, cwd=tmp_path)).values()
    assert first["teacher"]["errors"] != second["teacher"]["errors"]
    assert first["student"]["artifact"] != second["student"]["artifact"]
    assert first["teacher"]["artifact"] is None
    assert inside(*words, cwd=tmp_path).err.count("is complete, and not run again") == 2


@pytest.mark.parametrize("online", ["true", "false"])
def test_one_that_answers_otherwise_under_the_same_name_is_asked_anew(online: str, tmp_path: Path) -> None:
    write(tmp_path, f"tabled_again_{online}")
    words = ("sweep", *MINE, "teacher=mine", "teacher.file=a.npy,b.npy", f"teacher.online={online}")
    before = jobs(inside(*words, cwd=tmp_path))
    table(tmp_path / "b.npy", 7)
    done = inside(*words, cwd=tmp_path)
    assert done.err.count("is complete, and not run again") == 1
    after = jobs(done)
    assert after["teacher.file-a.npy"] == before["teacher.file-a.npy"]
    for role in ("teacher", "student"):
        assert after["teacher.file-b.npy"][role]["errors"] != before["teacher.file-b.npy"][role]["errors"]


def test_it_is_a_member_of_an_ensemble(tmp_path: Path) -> None:
    write(tmp_path, "tabled_member")
    words = ("distill", *MINE, TINY[1], "teacher=ensemble", "teacher.members=[mine,mine,cnn_digits]")
    words = (*words, "teacher.members.1.file=b.npy", "teacher.members.2.train.epochs=1")
    result = inside(*words, cwd=tmp_path).result
    one, other, trained = result["teacher"]["members"]
    assert one["errors"] != other["errors"]
    assert (one["artifact"], trained["artifact"][:9]) == (None, "teachers/")
    assert inside(*words, cwd=tmp_path).result["stages"]["student"]["cached"] is True
    table(tmp_path / "b.npy", 7)
    again = inside(*words, cwd=tmp_path).result["stages"]
    assert [again[f"soft_targets_{k}"]["cached"] for k in range(3)] == [True, False, True]
    assert again["student"]["cached"] is False


WEIGHTS = """
class Answers(nn.Linear):
    def __init__(self, table):
        super().__init__(64, 10)
        self.weight.data[:] = torch.from_numpy(table.T)

    def forward(self, images):
        return super().forward(images.flatten(1))
"""


def test_one_of_plain_weights_needs_to_state_nothing(tmp_path: Path) -> None:
    start, _, rest = SOURCE.partition("class Answers")
    write(tmp_path, "tabled_weights", states="", source=start + WEIGHTS + rest.partition("\n\n\n")[2])
    words = ("sweep", *MINE, "teacher=mine", "teacher.file=a.npy,b.npy")
    first, second = jobs(inside(*words, cwd=tmp_path)).values()
    assert first["teacher"]["errors"] != second["teacher"]["errors"]


def test_it_may_be_a_plain_class() -> None:
    class Service(Single):
        def __init__(self, address: str, online: bool = False) -> None:
            super().__init__(online=online)
            self.address = address

        def network(self, dataset: Any, load: Any) -> Any:
            return parts()

    assert (Service("a").address, Service("a", online=True).online) == ("a", True)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ("", "Its network holds no parameters and no buffers. Give Table a method identity(network)"),
        ("    identity = lambda self, network: {}\n", "It states {}."),
        ("    identity = lambda self, network: {'a': self}\n", "Object of type Table is not JSON serializable."),
        ("    identity = lambda self, network: file_of('nowhere')\n", "(No such file or directory), got 'nowhere'."),
        ("    identity = lambda self, network: 1 / 0\n", "division by zero"),
    ],
    ids=["nothing", "an empty one", "no plain value", "a missing file", "an error"],
)
def test_one_that_does_not_say_what_it_is_is_refused_before_any_work(states: str, said: str, tmp_path: Path) -> None:
    write(tmp_path, f"tabled_silent_{len(states)}", states=states)
    for words, key in (
        (("teacher=mine",), "teacher"),
        (("teacher=ensemble", "teacher.members=[cnn_digits,mine]"), "teacher.members.1"),
    ):
        done = inside("distill", *MINE, *words, cwd=tmp_path)
        assert (done.status, done.out, "Traceback" in done.err) == (1, "", False)
        last = done.err.splitlines()[-1]
        assert last.startswith(f"{key} must be one ")
        assert said in last
        assert not (tmp_path / "outputs").exists()


def test_what_is_no_teacher_and_one_that_fails_are_named(tmp_path: Path) -> None:
    write(tmp_path, "tabled_missing")
    missing = inside("distill", *MINE, "teacher=mine", "teacher.file=nowhere.npy", cwd=tmp_path)
    assert missing.status == 1
    failed = "teacher failed: FileNotFoundError: [Errno 2] No such file or directory: "
    assert missing.err.splitlines()[-1].startswith(f"{failed}'nowhere.npy' (tabled_missing.py, line ")
    (tmp_path / "mine" / "teacher" / "none.yaml").write_text("_target_: tabled_missing.Answers\ntable: 1\n")
    none = inside("distill", *MINE, "teacher=none", cwd=tmp_path)
    assert none.err.splitlines()[-1] == (
        "teacher must be a kd_cli.teachers.source.Single, got 'Answers'. Derive its class from that."
    )
    specialists = inside("distill", *MINE, "teacher=specialists", "teacher.generalist=mine", cwd=tmp_path)
    assert specialists.err.splitlines()[-1].startswith("teacher.generalist must be one whose network kd can build, got")
    assert files_below(tmp_path / "mine") == ["teacher", "teacher/mine.yaml", "teacher/none.yaml"]
    assert not (tmp_path / "outputs").exists()


# What a network that says nothing is known by.


def parts(**attributes: Any) -> Any:
    from torch import nn

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(2, 2), attributes.pop("then", nn.ReLU()))
            for name, value in attributes.items():
                setattr(self, name, value)

    return Part()


def seeded(**attributes: Any) -> Any:
    import torch

    torch.manual_seed(0)
    return network_of(parts(**attributes))


class Bound:
    def ask(self) -> None:
        pass


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"scale": 1}, {"scale": 2}),
        ({"scale": 1}, {"scale": True}),
        ({"address": "a"}, {"address": "b"}),
        ({"table": np.zeros(2)}, {"table": np.ones(2)}),
        ({"rows": {"a": [1, (2, 3)]}}, {"rows": {"a": [1, (2, 4)]}}),
        ({"function": len}, {"function": sum}),
        ({"kind": Bound}, {"kind": Outcome}),
        ({}, {"extra": None}),
    ],
)
def test_networks_that_differ_in_a_plain_attribute_alone_are_two(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert seeded(**one) == seeded(**one)
    assert seeded(**one)["weights"] == seeded(**other)["weights"]
    assert seeded(**one) != seeded(**other)


def test_networks_that_differ_in_their_layers_are_two() -> None:
    import torch
    from torch import nn

    kinds = [nn.ReLU(), nn.Tanh(), nn.LeakyReLU(0.1), nn.LeakyReLU(0.2), nn.Dropout(0.1), parts()]
    assert len({seeded(then=kind)["structure"] for kind in kinds}) == len(kinds)
    plain_tensors = [{"table": torch.full((2,), value)} for value in (0.0, 1.0)]
    assert len({seeded(**each)["structure"] for each in plain_tensors}) == 2


@pytest.mark.parametrize(
    "value",
    [object(), Bound().ask, [object()], {1: Bound()}, Path("a.onnx")],
    ids=["an object", "its method", "in a list", "in a mapping", "a file"],
)
def test_a_network_that_holds_more_cannot_be_told(value: Any) -> None:
    with pytest.raises(Opaque, match=r"^session.* \(\w+\)$"):
        seeded(session=value)


def test_a_network_without_any_weights_cannot_be_told() -> None:
    from torch import nn

    for tell in (weights_of, network_of):
        with pytest.raises(Opaque, match="no parameters and no buffers"):
            tell(nn.Flatten())
