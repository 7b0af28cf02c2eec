"""What went wrong in published distillation code and concerns more than one module of kd."""

import ast
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import kd_cli
from kd_cli.data.augment import Shift
from kd_cli.measure.prediction import predict, predictions
from kd_cli.models.mlp import mlp
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.objectives.hinton import Hinton
from kd_cli.store.artifacts import Store
from kd_cli.targets.soft_targets import SoftTargets, Storage, write_targets
from kd_cli.train.batches import Batches
from kd_cli.train.fit import fit

CPU = torch.device("cpu")
SOURCES = sorted(Path(kd_cli.__file__).parent.rglob("*.py"))


@pytest.fixture
def teacher() -> nn.Module:
    torch.manual_seed(1)
    network = mlp(10, (1, 8, 8), widths=[40], dropout=0.5, mean=[0.3], std=[0.3])
    nn.init.normal_(network[-1].weight)  # an opinion of its own, that labels know nothing of
    return network


@pytest.fixture
def stored(tmp_path, teacher, few):
    def fill(folder: Path) -> dict[str, object]:
        write_targets(
            folder, lambda view: predictions(teacher, few, CPU, Shift(2), 5, view), few, 2, Storage("float32")
        )
        return {}

    return SoftTargets(Store(tmp_path).write("soft_targets", {}, fill), CPU)


def test_stored_targets_belong_to_the_very_pixels_that_the_student_sees(teacher, stored, few):
    teacher.eval()
    for epoch in range(3):
        for batch in Batches(few, 32, 9, CPU, Shift(2), 5, views=2, targets=stored).epoch(epoch):
            with torch.no_grad():
                now = teacher(batch.inputs)  # normalised by the teacher itself
            now = now - now.max(1, keepdim=True).values
            torch.testing.assert_close(batch.teacher.logits, now, rtol=1e-4, atol=1e-5)


def test_a_student_follows_a_teacher_of_another_normalisation(teacher, stored, few, recipe):
    torch.manual_seed(2)
    student = mlp(10, (1, 8, 8), widths=[64])
    batches = Batches(few, 32, 9, CPU, Shift(2), 5, views=2, targets=stored)
    fit(student, batches, Hinton(1.0, 1.0, 0.0), recipe(lr=0.1, epochs=40))
    chosen = [predict(model, few, CPU, Shift(2), 5, view=1).argmax(1) for model in (student, teacher)]
    assert (chosen[0] == chosen[1]).float().mean() > 0.8


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_temperature_changes_what_is_learnt(stored, few, recipe, temperature):
    learnt = []
    for other in (temperature, temperature * 3):
        torch.manual_seed(2)
        student = mlp(10, (1, 8, 8), widths=[16])
        fit(student, Batches(few, 32, 9, CPU, Shift(2), 5, 2, stored), Hinton(other, 1.0, 0.0), recipe(epochs=1))
        learnt.append(predict(student, few, CPU))
    assert not torch.allclose(*learnt, atol=1e-4)


def test_student_and_baseline_take_the_same_steps_over_the_same_images(stored, few, recipe):
    shown: list[list[Tensor]] = []
    for targets, objective in ((stored, Hinton(4.0, 1.0, 1.0)), (None, CrossEntropy())):
        images: list[Tensor] = []
        model = mlp(10, (1, 8, 8), widths=[16])

        def recorded(answer, batch, objective=objective, images=images):
            images.append(batch.inputs)
            return objective(answer, batch)

        fit(model, Batches(few, 32, 9, CPU, Shift(2), 5, 2, targets), recorded, recipe())
        shown.append(images)
    assert len(shown[0]) == len(shown[1]) == 10
    assert all(torch.equal(left, right) for left, right in zip(*shown, strict=True))


def test_with_the_soft_weight_at_zero_the_student_is_the_baseline(stored, few, recipe):
    learnt = []
    for targets, objective in ((stored, Hinton(4.0, 0.0, 1.0)), (None, CrossEntropy())):
        torch.manual_seed(2)
        model = mlp(10, (1, 8, 8), widths=[16], dropout=0.5)
        fit(model, Batches(few, 32, 9, CPU, Shift(2), 5, 2, targets), objective, recipe())
        learnt.append(nn.utils.parameters_to_vector(model.parameters()).detach())
    torch.testing.assert_close(*learnt)


def calls(tree: ast.AST) -> list[str]:
    return [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(Path(kd_cli.__file__).parent).as_posix())
def test_no_source_reads_or_writes_a_pickle_or_starts_a_shell(path):
    tree = ast.parse(path.read_text())
    names = set(calls(tree))
    assert not names & {"torch.save", "pickle.load", "pickle.loads", "pickle.dump", "pickle.dumps", "os.system"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            assert "weights_only=True" in [ast.unparse(keyword) for keyword in node.keywords]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(Path(kd_cli.__file__).parent).as_posix())
def test_the_word_alpha_is_used_for_no_weight(path):
    names = {node.arg for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.arg)}
    assert "alpha" not in names
