"""What a training does to a model, and which epoch of it is kept."""

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from watching import Seen
from weights import weights

from kd_cli import device
from kd_cli.data.samples import Answer, Batch
from kd_cli.errors import ConfigError, TrainingError
from kd_cli.measure.prediction import predict
from kd_cli.models.mlp import mlp
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.objectives.hinton import Hinton
from kd_cli.train.batches import Batches
from kd_cli.train.fit import fit
from kd_cli.train.recipe import Recipe, constrain
from kd_cli.train.schedules import constant

CPU = torch.device("cpu")


# --- the step


def test_training_learns(small_net, recipe, digits):
    model = small_net(dropout=0.0)
    fit(model, Batches(digits.train, 32, 0, CPU), CrossEntropy(), recipe(epochs=3))
    right = predict(model, digits.test, CPU).argmax(1) == digits.test.labels
    assert right.float().mean() > 0.85


def test_one_step_is_that_of_plain_torch(small_net, few):
    model, twin = small_net(dropout=0.0), small_net(dropout=0.0)
    batch = next(Batches(few, 150, 3, CPU).epoch(0))
    fit(
        model, Batches(few, 150, 3, CPU), CrossEntropy(), Recipe(1, 150, lambda p: torch.optim.SGD(p, lr=0.1), constant)
    )
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    nn.functional.cross_entropy(twin(batch.inputs), batch.labels).backward()
    optimizer.step()
    torch.testing.assert_close(weights(model), weights(twin))


def test_max_norm_bounds_the_weights_into_every_unit(small_net, few, recipe):
    free, bounded = small_net(dropout=0.0), small_net(dropout=0.0)
    fit(free, Batches(few, 32, 0, CPU), CrossEntropy(), recipe())
    fit(bounded, Batches(few, 32, 0, CPU), CrossEntropy(), recipe(max_norm=0.4))

    def longest(model: nn.Module) -> float:
        return max(p.detach().flatten(1).norm(dim=1).max().item() for p in model.parameters() if p.ndim > 1)

    assert longest(free) > 0.6
    assert 0.399 < longest(bounded) <= 0.4 + 1e-6


def test_constrain_scales_long_rows_alone_and_keeps_their_direction():
    matrix = nn.Parameter(torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]))
    kernel = nn.Parameter(torch.full((2, 1, 2, 2), 2.0))
    constrain([matrix, kernel], 1.0)
    torch.testing.assert_close(matrix.data, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))
    torch.testing.assert_close(kernel.data, torch.full((2, 1, 2, 2), 0.5))


@pytest.mark.parametrize(("precision", "near"), [("32", 1e-3), ("16-mixed", 2e-2)])
def test_clip_bounds_the_length_of_the_whole_gradient(small_net, few, precision, near):
    moved = {}
    for clip in (None, 0.01):
        model = small_net(dropout=0.0)
        before = weights(model)
        plain = Recipe(1, 150, lambda p: torch.optim.SGD(p, lr=1.0), constant, precision=precision, clip=clip)
        fit(model, Batches(few, 150, 0, CPU), CrossEntropy(), plain)
        moved[clip] = weights(model) - before  # the gradient of the one step
    assert float(moved[None].norm()) > 0.1
    assert float(moved[0.01].norm()) == pytest.approx(0.01, rel=near)
    torch.testing.assert_close(moved[0.01] / 0.01, moved[None] / moved[None].norm(), rtol=near, atol=near / 10)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_keeps_weights_loss_and_logits_in_float32(small_net, recipe, few, precision, monkeypatch):
    monkeypatch.setattr(
        device, "native_bf16", lambda device: True
    )  # elsewhere bf16 would be emulated: slow, but the same
    seen: list[torch.dtype] = []

    def objective(answer: Answer, batch: Batch) -> dict[str, Tensor]:
        seen.append(answer.logits.dtype)
        return CrossEntropy()(answer, batch)

    model = small_net()
    inner: list[torch.dtype] = []
    model[3].register_forward_hook(
        lambda module, inputs, output: inner.append(output.dtype) if module.training else None
    )
    fit(model, Batches(few, 32, 0, CPU), objective, recipe(precision=precision))
    assert set(seen) == {torch.float32}
    assert set(inner) == {device.PRECISIONS[precision]}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("bad", "shown"), [(math.nan, "NaN"), (math.inf, "infinite")])
def test_a_loss_that_is_no_number_ends_training_with_epoch_and_rate(small_net, recipe, few, bad, shown):
    epochs: list[int] = []

    def objective(answer: Answer, batch: Batch) -> dict[str, Tensor]:
        return {"loss": answer.logits.sum() * 0 + (bad if epochs else 1.0)}

    with pytest.raises(TrainingError) as error:
        fit(
            small_net(),
            Batches(few, 50, 0, CPU),
            objective,
            recipe(lr=0.25, epochs=4),
            watch=Seen(epoch=lambda record: epochs.append(int(record["epoch"]))),
        )
    assert str(error.value).startswith(f"The loss turned {shown} in epoch 2 of 4 at learning rate 0.25. Try ")
    assert epochs == [1]


def test_only_the_models_own_parameters_are_optimised(small_net, few):
    teacher, student = small_net(1).eval(), small_net(2)
    before, given = weights(teacher), []

    def optimizer(parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
        given.extend(parameters)
        return torch.optim.SGD(given[-len(list(student.parameters())) :], lr=0.1)

    def online(positions: Tensor, view: int, images: Tensor) -> Tensor:
        return teacher(images)

    fit(student, Batches(few, 32, 0, CPU, targets=online), Hinton(4.0, 1.0, 0.0), Recipe(1, 32, optimizer, constant))
    own = {id(parameter) for parameter in student.parameters()}
    assert {id(parameter) for parameter in given} == own
    assert torch.equal(weights(teacher), before)


# --- selection


def test_the_last_epoch_is_kept_unless_asked_otherwise(small_net, recipe, few, digits):
    states: list[Tensor] = []
    model = small_net()
    fit(
        model,
        Batches(few, 32, 0, CPU),
        CrossEntropy(),
        recipe(epochs=3),
        digits.validation,
        watch=Seen(epoch=lambda record: states.append(weights(model))),
    )
    assert torch.equal(weights(model), states[-1])


def test_best_validation_keeps_the_earliest_epoch_with_the_fewest_validation_errors(recipe, few):
    # Labels of the validation split are those of another class: learning the training split spoils it.
    contrary = few.with_labels((few.labels + 1) % 10)
    model = mlp(10, (1, 8, 8), widths=[16])
    records: list[dict[str, float]] = []
    states: list[dict[str, Tensor]] = []

    def on_epoch(record: dict[str, float]) -> None:
        records.append(record)
        states.append(copy.deepcopy(model.state_dict()))

    rule = recipe(lr=0.02, epochs=6, select="best_validation")
    fit(model, Batches(few, 32, 0, CPU), CrossEntropy(), rule, contrary, watch=Seen(epoch=on_epoch))
    accuracies = [record["validation_accuracy"] for record in records]
    best = accuracies.index(max(accuracies))
    assert best < len(accuracies) - 1
    assert min(record["loss"] for record in records) < records[best]["loss"]
    assert all(torch.equal(value, states[best][name]) for name, value in model.state_dict().items())
    right = predict(model, contrary, CPU).argmax(1) == contrary.labels
    assert float(right.double().mean()) == pytest.approx(max(accuracies))


def test_of_epochs_with_equally_many_validation_errors_the_first_is_kept(small_net, recipe, few, digits):
    model, states, errors = small_net(), [], []

    def on_epoch(record: dict[str, float]) -> None:
        states.append(copy.deepcopy(model.state_dict()))
        errors.append(record["validation_accuracy"])

    rule = recipe(lr=1e-7, epochs=3, select="best_validation")
    fit(model, Batches(few, 32, 0, CPU), CrossEntropy(), rule, digits.validation, watch=Seen(epoch=on_epoch))
    assert len(set(errors)) == 1
    assert all(torch.equal(value, states[0][name]) for name, value in model.state_dict().items())
    assert not all(torch.equal(value, states[0][name]) for name, value in states[-1].items())


def test_best_validation_without_a_validation_split_is_refused(small_net, recipe, few):
    with pytest.raises(ConfigError) as refusal:
        fit(small_net(), Batches(few, 32, 0, CPU), CrossEntropy(), recipe(select="best_validation"))
    assert str(refusal.value) == (
        "train.select must be last where there is no validation split, got 'best_validation'. "
        "Set dataset.validation=0.1."
    )


def test_fit_trains_in_train_mode_after_each_validation_and_ends_in_eval_mode(small_net, recipe, few, digits):
    model, modes = small_net().eval(), []

    def objective(answer: Answer, batch: Batch) -> dict[str, Tensor]:
        modes.append(all(module.training for module in model.modules()))
        return CrossEntropy()(answer, batch)

    fit(model, Batches(few, 50, 0, CPU), objective, recipe(epochs=3), digits.validation)
    assert modes == [True] * 9
    assert not any(module.training for module in model.modules())


def test_the_number_of_threads_is_restored_after_training(small_net, recipe, few):
    before = torch.get_num_threads()
    fit(small_net(), Batches(few, 32, 0, CPU), CrossEntropy(), recipe(epochs=1))
    assert torch.get_num_threads() == before
