"""What fails only in training mode is refused before any work, for teacher, student and baseline."""

import copy
import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from running import Outcome, inside
from torch import Tensor, nn

from kd_cli.data.augment import Shift
from kd_cli.data.samples import Split
from kd_cli.errors import ConfigError
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.objectives.hinton import Hinton
from kd_cli.train.batches import Batches
from kd_cli.train.probe import probe
from kd_cli.train.recipe import Recipe
from kd_cli.train.schedules import constant

CPU = torch.device("cpu")
OBJECTIVE = Hinton(4.0, 0.9, 0.1)


class Net(nn.Module):
    """A linear network whose logits `spoil` changes while it is trained."""

    def __init__(self, spoil=lambda logits: logits) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.spoil, self.linear, self.norm = spoil, nn.Linear(64, 10), nn.BatchNorm1d(10)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.norm(self.linear(images.flatten(1)))
        return self.spoil(logits) if self.training else logits


class Needy(torch.optim.SGD):
    """Asks for a closure only when it is too late."""

    def step(self, closure=None):  # type: ignore[no-untyped-def]
        assert closure is not None, "a closure is needed"


def frozen() -> nn.Module:
    return Net().requires_grad_(False)


def raises(logits: Tensor) -> Tensor:
    raise ValueError("only in training")


def try_out(model: nn.Module, split: Split, batch_size: int = 32, optimizer=torch.optim.SGD, **changes) -> None:  # type: ignore[no-untyped-def]
    recipe = Recipe(1, batch_size, partial(optimizer, lr=0.1), constant, **changes)
    probe(model, Batches(split, batch_size, 0, CPU, Shift(1)), OBJECTIVE, recipe, 10, taught=True)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda logits: (logits, logits), "gives logits alone, also while it is trained, got 'tuple'"),
        (lambda logits: {"out": logits}, "got 'dict'"),
        (lambda logits: logits[:, :9], r"\[32, 10\] here, got float32 \[32, 9\] for 32 images"),
        (lambda logits: logits.detach(), "logits depend on what it learns"),
        (lambda logits: logits.softmax(1), "as after a softmax"),
        (lambda logits: logits.argmax(1), "got int64"),
        (raises, "trained on 32 images of .* got an error: ValueError: only in training"),
    ],
)
def test_an_output_that_is_another_in_training_is_refused(few, spoil, said) -> None:
    with pytest.raises(ConfigError, match=f"^model must be .*{said}"):
        try_out(Net(spoil), few)


@pytest.mark.parametrize(("batch_size", "samples"), [(1, 8), (32, 1)])
def test_a_single_sample_before_batch_norm_is_refused(few, batch_size, samples) -> None:
    with pytest.raises(
        ConfigError, match=r"^train\.batch_size must be .* batch norm, got 1\. .* raise train.batch_size"
    ):
        try_out(Net(), few.select(torch.arange(samples)), batch_size)


def test_a_single_sample_without_batch_norm_is_not(few, small_net) -> None:
    try_out(small_net(), few.select(torch.arange(8)), 1)


def test_the_smaller_last_batch_is_tried_too(few) -> None:
    def few_fail(logits: Tensor) -> Tensor:
        if len(logits) < 32:
            raise ValueError("too few")
        return logits

    with pytest.raises(ConfigError, match=r"trained on 22 images .* too few"):
        try_out(Net(few_fail), few)  # 150 = 4 × 32 + 22


def test_a_network_that_has_nothing_to_learn_is_refused(few) -> None:
    with pytest.raises(ConfigError, match=r"^model must be .* got one whose 4 parameters are all frozen"):
        try_out(frozen(), few)
    with pytest.raises(ConfigError, match=r"^model must be .* got one without parameters"):
        try_out(nn.Flatten(), few)


@pytest.mark.parametrize("optimizer", [torch.optim.LBFGS, Needy, lambda parameters, lr: nn.Linear(1, 1)])
def test_an_optimizer_that_cannot_make_a_step_is_refused(few, optimizer) -> None:
    with pytest.raises(ConfigError, match=r"^train\.optimizer must be .*"):
        try_out(Net(), few, optimizer=optimizer)


def test_arguments_that_an_optimizer_does_not_take_are_named(few) -> None:
    with pytest.raises(ConfigError, match=r"^train\.optimizer must be one that torch accepts, .*'momentum'"):
        try_out(Net(), few, optimizer=partial(torch.optim.Adam, momentum=0.9))


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (lambda answer, batch: {"soft": answer.logits.mean()}, r"got only soft\."),
        (lambda answer, batch: answer.logits.mean(), r"got a tensor \[\] by itself\."),
        (lambda answer, batch: None, r"got None\."),
        (lambda answer, batch: {}, r"got \{\}\."),
        (lambda answer, batch: {"loss": answer.logits.mean(1)}, r"got a tensor \[32\]"),
        (lambda answer, batch: {"loss": 0.0}, "got 0.0"),
        (lambda answer, batch: {"loss": torch.zeros(())}, r"got a tensor \[\]"),
        (lambda answer, batch: {"loss": answer.logits.sum() / batch.nothing}, "AttributeError"),
    ],
)
@pytest.mark.filterwarnings("error")  # torch's would come first, with a path of ours
def test_an_objective_that_gives_no_loss_is_named(few, objective, said) -> None:
    recipe = Recipe(1, 32, partial(torch.optim.SGD, lr=0.1), constant)
    with pytest.raises(ConfigError, match=f"^objective must be one that gives named terms.*{said}"):
        probe(Net(), Batches(few, 32, 0, CPU), objective, recipe, 10, taught=True)


def test_it_leaves_no_trace(few) -> None:
    model = Net(lambda logits: logits + torch.rand(()) + random.random() + float(np.random.rand()))
    before = copy.deepcopy(model.state_dict())
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    for precision in ("32", "bf16-mixed"):
        try_out(model, few, precision=precision)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])


def test_what_is_well_passes_with_and_without_a_teacher(few, small_net) -> None:
    try_out(small_net(), few, clip=1.0, max_norm=1.0, precision="16-mixed")
    recipe = Recipe(1, 32, partial(torch.optim.AdamW, lr=0.1), constant, accumulate=4)
    probe(Net(), Batches(few, 32, 0, CPU), CrossEntropy(), recipe, 10, taught=False)


def test_a_network_that_cannot_be_copied_is_trained_untried(few, caplog) -> None:
    model = Net(raises)
    model.lock = open("/dev/null")  # noqa: SIM115  # cannot be copied
    with caplog.at_level("INFO", "kd"), model.lock:
        try_out(model, few)
    assert "not tried beforehand" in caplog.text


# --- the command


MODELS = """
import torch
from torch import nn


class Spoilt(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.linear, self.norm = kind, nn.Linear(64, 10), nn.BatchNorm1d(10)
        if kind == "frozen":
            self.requires_grad_(False)

    def forward(self, images):
        logits = self.norm(self.linear(images.flatten(1)))
        if self.kind == "picky" and len(images) == 46:
            raise ValueError("46")
        if self.kind == "tuple" and self.training:
            return logits, logits
        return logits.softmax(1) if self.kind == "softmax" else logits


def spoilt(num_classes, input_shape, kind="well"):
    return Spoilt(kind)
"""


def run(command: str, folder: Path, *words: str) -> Outcome:
    (folder / "spoilt_models.py").write_text(MODELS)
    (folder / "mine" / "model").mkdir(parents=True)
    (folder / "mine" / "optimizer").mkdir()
    (folder / "mine" / "model" / "spoilt.yaml").write_text(
        "_target_: spoilt_models.spoilt\n_partial_: true\nkind: well\n"
    )
    (folder / "mine" / "optimizer" / "lbfgs.yaml").write_text("_target_: torch.optim.LBFGS\n_partial_: true\nlr: 1\n")
    return inside(command, "--config-dir", "mine", *words, cwd=folder)


def model_of(role: str, kind: str) -> list[str]:
    return [f"model@{role}.model=spoilt", f"{role}.model.kind={kind}"]


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize(
    ("kind", "words", "said"),
    [
        ("tuple", [], "{role}.model must be a network that gives logits alone"),
        ("frozen", [], "{role}.model must be a network that has something to learn, got one whose 4 parameters"),
        ("softmax", [], "{role}.model must be a network that gives logits, got outputs that are ≥ 0 and sum to 1"),
        ("well", ["{role}.train.batch_size=1"], "{role}.train.batch_size must be one that leaves no sample alone"),
        ("well", ["optimizer@{role}.train.optimizer=lbfgs"], "{role}.train.optimizer must be a torch optimizer whose"),
    ],
)
def test_it_is_refused_by_its_key_before_any_work(tmp_path, role, kind, words, said) -> None:
    done = run("distill", tmp_path, *model_of(role, kind), *(word.format(role=role) for word in words))
    assert done.status == 1
    assert done.err.startswith(said.format(role=role)), done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "outputs").exists()


def test_a_baseline_on_other_samples_is_tried_as_well(tmp_path) -> None:
    """The transfer set has no labels: the baseline learns from the training split, whose last batch is another one."""
    words = ("transfer.labels=none", "hard_weight=0", "transfer.fraction=0.5")  # 599 = 9 × 64 + 23, 1198 = 18 × 64 + 46
    done = run("distill", tmp_path, *model_of("student", "picky"), *words)
    assert done.status == 1
    assert done.err.startswith("student.model must be a network that can be trained on 46 images"), done.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("role", ["teacher.member", "teacher.generalist"])
def test_a_part_of_a_teacher_is_tried_by_its_own_key(tmp_path, role) -> None:
    kind = {"teacher.member": "ensemble", "teacher.generalist": "specialists"}[role]
    words = (f"teacher={kind}", f"model@{role}.model=spoilt", f"{role}.model.kind=tuple")
    done = run("train-teacher", tmp_path, *words)
    assert done.status == 1
    assert done.err.startswith(f"{role}.model must be a network that gives logits alone"), done.err


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("student.train.epochs=0", "student.train.epochs must be a whole number ≥ 1"),
        ("student.train.optimizer.lr=-1", "student.train.optimizer must be one that torch accepts"),
        ("student.train.scheduler.warmup=2", "student.train.scheduler.warmup must be a share"),
        ("teacher.train.clip=0", "teacher.train.clip must be > 0 or null"),
        ("+student.train.nonsense=1", "student.train cannot be built"),
    ],
)
def test_a_recipe_is_refused_before_data_are_read(tmp_path, word, said) -> None:
    done = inside("distill", "dataset=mnist", "dataset.root=nowhere", "dataset.download=false", word, cwd=tmp_path)
    assert done.status == 1
    assert done.err.startswith(said), done.err


def test_the_recipe_of_a_member_is_refused_before_data_are_read_too(tmp_path) -> None:
    words = ("teacher=ensemble", "teacher.members=[mlp_1200,cnn]", "teacher.members.1.train.epochs=0")
    done = inside("distill", "dataset=mnist", "dataset.root=nowhere", "dataset.download=false", *words, cwd=tmp_path)
    assert done.err.startswith("teacher.members.1.train.epochs must be"), done.err
