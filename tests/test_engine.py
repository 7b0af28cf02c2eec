import copy
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from watching import Seen

from kd_cli import device
from kd_cli.data.augment import Shift
from kd_cli.data.resident import Resident
from kd_cli.data.samples import UNLABELLED, Batch, Split
from kd_cli.device import find_device
from kd_cli.errors import ConfigError, TrainingError
from kd_cli.measure.prediction import predict, predictions
from kd_cli.models.mlp import mlp
from kd_cli.models.resnet import resnet
from kd_cli.objectives.cross_entropy import CrossEntropy
from kd_cli.objectives.hinton import Hinton
from kd_cli.train.batches import Batches, derive
from kd_cli.train.fit import fit
from kd_cli.train.meter import Meter
from kd_cli.train.recipe import Recipe, constrain
from kd_cli.train.schedules import constant, multi_step

CPU = torch.device("cpu")


def weights(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


class Recorded(CrossEntropy):
    """Cross-entropy that keeps every batch it is shown."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def __call__(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        self.batches.append(batch)
        return super().__call__(logits, batch)


# --- the seed


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_the_same_seed_gives_the_same_bits_whatever_was_drawn_before(small_net, recipe, few, precision):
    trained = []
    for disturbance in (1, 2):
        model = small_net()
        torch.manual_seed(disturbance)
        torch.rand(disturbance)
        fit(model, Batches(few, 32, 5, CPU, Shift(1), 0, 2), CrossEntropy(), recipe(precision=precision))
        trained.append(weights(model))
    assert torch.equal(*trained)


def test_validating_after_each_epoch_does_not_change_what_is_learnt(small_net, recipe, few, digits):
    trained = []
    for validation in (None, digits.validation):
        model = small_net()
        fit(model, Batches(few, 32, 5, CPU), CrossEntropy(), recipe(), validation)
        trained.append(weights(model))
    assert torch.equal(*trained)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_another_seed_gives_another_order_and_other_dropout(small_net, recipe, few, dropout):
    trained = []
    for seed in (5, 6):
        model = small_net(dropout=dropout)
        fit(model, Batches(few, len(few) if dropout else 32, seed, CPU), CrossEntropy(), recipe(epochs=1))
        trained.append(weights(model))
    assert not torch.allclose(*trained, atol=1e-4)


def test_other_threads_give_the_same_weights_within_rounding(recipe, digits):
    def trained(threads: int) -> list[Tensor]:
        torch.manual_seed(0)
        model = mlp(10, (1, 8, 8), widths=[1200, 1200], dropout=0.5)
        torch.set_num_threads(threads)
        fit(model, Batches(digits.train, 256, 5, CPU), CrossEntropy(), recipe(epochs=2))
        return list(model.parameters())

    for one, two in zip(trained(1), trained(2), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_two_models_with_one_seed_see_the_same_batches(recipe, few):
    seen = []
    for widths, dropout in (([4], 0.0), ([40, 40], 0.5)):  # the second draws random numbers in every step
        objective = Recorded()
        model = mlp(10, (1, 8, 8), widths=widths, dropout=dropout)
        fit(model, Batches(few, 32, 9, CPU, Shift(2), 1, 2), objective, recipe())
        seen.append(objective.batches)
    assert len(seen[0]) == len(seen[1]) == 10
    for left, right in zip(*seen, strict=True):
        assert torch.equal(left.images, right.images)
        assert torch.equal(left.labels, right.labels)


def test_dropout_differs_between_steps_and_epochs(recipe, few):
    class Masks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropout, self.linear, self.seen = nn.Dropout(0.5), nn.Linear(64, 10), []

        def forward(self, images: Tensor) -> Tensor:
            mask = self.dropout(torch.ones(len(images), 64))
            if self.training:
                self.seen.append(mask)
            return self.linear(images.flatten(1) * mask)

    model = Masks()
    fit(model, Batches(few.select(torch.arange(64)), 32, 9, CPU), CrossEntropy(), recipe())
    masks = [mask for mask in model.seen if len(mask) == 32]
    assert len(masks) == 4
    assert not any(torch.equal(masks[j], masks[k]) for j in range(4) for k in range(j))


def test_derived_seeds_are_fixed_for_good_and_differ_for_other_parts():
    assert derive(0, "order", 0) == derive(0, "order", 0)
    parts = [(s, name, e) for s in range(5) for name in ("order", "dropout") for e in range(5)]
    derived = {derive(*part) for part in parts} | {derive(1, 12), derive(11, 2), derive("1", 12)}
    assert len(derived) == len(parts) + 3
    assert all(0 <= seed < 2**63 for seed in derived)


# --- batches


@pytest.mark.parametrize(
    ("samples", "size", "lengths"),
    [(41, 8, [8, 8, 8, 8, 9]), (40, 8, [8] * 5), (34, 8, [8] * 4 + [2]), (41, 64, [41]), (1, 8, [1])],
)
def test_an_epoch_shows_every_sample_once_and_no_batch_of_one(named, samples, size, lengths):
    batches = Batches(named.split.select(torch.arange(samples)), size, 0, CPU)
    shown = list(batches.epoch(0))
    assert [len(batch.images) for batch in shown] == lengths
    assert len(batches) == len(lengths)
    assert torch.equal(torch.cat([named.of(batch.images) for batch in shown]).sort().values, torch.arange(samples))


def test_epochs_come_in_other_orders_and_can_be_asked_for_in_any(named):
    batches = Batches(named.split, 8, 0, CPU)
    orders = [torch.cat([named.of(batch.images) for batch in batches.epoch(epoch)]) for epoch in (0, 1, 0)]
    assert torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0], orders[1])


@pytest.mark.parametrize(("views", "expected"), [(3, [0, 1, 2, 0, 1]), (1, [0] * 5), (None, [0, 1, 2, 3, 4])])
def test_epoch_e_shows_view_e_mod_v_in_images_and_targets(few, views, expected):
    asked: list[int] = []

    def targets(positions: Tensor, view: int, images: Tensor) -> Tensor:
        asked.append(view)
        by_hand = Shift(2)(next(few.images.stream([positions], CPU)), few.index[positions], 11, view)
        assert torch.equal(images, by_hand.float() / 255)
        return torch.zeros(len(positions), 10)

    batches = Batches(few, 150, 0, CPU, Shift(2), 11, views, targets)
    for epoch in range(5):
        list(batches.epoch(epoch))
    assert asked == expected


def test_images_are_float32_in_0_to_1(named):
    images = next(Batches(named.split, 41, 0, CPU).epoch(0)).images
    assert images.dtype == torch.float32
    torch.testing.assert_close(images.unique(), torch.arange(41) / 255)


# --- means


def test_figures_of_an_uneven_last_batch_are_means_over_samples(recipe, few):
    class Constant(nn.Module):
        """Always the same logits; its learning rate is 0 below."""

        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.linspace(0, 2, 10))

        def forward(self, images: Tensor) -> Tensor:
            return self.bias.expand(len(images), 10) * 1

    records: list[dict[str, float]] = []
    split = few.select(torch.arange(101))  # 64 + 37
    fit(Constant(), Batches(split, 64, 0, CPU), CrossEntropy(), recipe(lr=0.0), watch=Seen(epoch=records.append))
    bias = torch.linspace(0, 2, 10, dtype=torch.float64)
    expected = float((bias.logsumexp(0) - bias[split.labels]).mean())
    assert [record["loss"] for record in records] == pytest.approx([expected] * 2, rel=1e-6)
    assert records[0]["train_accuracy"] == pytest.approx(float((split.labels == 9).double().mean()))


def test_the_meter_weighs_batches_by_their_samples_and_accuracy_by_labels():
    meter = Meter()
    logits = torch.eye(3)
    meter.add(Batch(torch.zeros(3, 1), torch.tensor([0, 1, 0])), logits, {"loss": torch.tensor(2.0)})
    meter.add(Batch(torch.zeros(1, 1), torch.tensor([UNLABELLED])), logits[:1], {"loss": torch.tensor(6.0)})
    figures = meter.figures()
    assert figures["loss"] == 3.0  # (3 · 2 + 1 · 6) / 4, not (2 + 6) / 2
    assert figures["train_accuracy"] == pytest.approx(2 / 3)
    assert figures["images_per_second"] > 0


def test_the_meter_has_no_accuracy_without_labels():
    meter = Meter()
    meter.add(Batch(torch.zeros(2, 1), torch.tensor([-1, -1])), torch.eye(2), {"loss": torch.tensor(2.0)})
    assert "train_accuracy" not in meter.figures()


def test_each_epoch_is_recorded_with_its_number_rate_terms_and_accuracies(small_net, recipe, few, digits):
    records: list[dict[str, float]] = []
    steps: list[tuple[int, int]] = []

    def targets(positions: Tensor, view: int, images: Tensor) -> Tensor:
        return torch.zeros(len(positions), 10)

    fit(
        small_net(),
        Batches(few, 50, 0, CPU, targets=targets),
        Hinton(4.0, 0.5, 0.25),
        recipe(lr=0.2, epochs=3, scheduler=lambda *a: multi_step(*a, milestones=[2], gamma=0.5)),
        digits.validation,
        watch=Seen(lambda epoch, step: steps.append((epoch, step)), records.append),
    )
    assert steps == [(epoch, step) for epoch in range(3) for step in range(3)]
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert [record["lr"] for record in records] == [0.2, 0.2, 0.1]
    for record in records:
        expected = {"epoch", "lr", "loss", "soft", "hard", "train_accuracy", "validation_accuracy", "images_per_second"}
        assert set(record) == expected
        assert record["loss"] == pytest.approx(0.5 * record["soft"] + 0.25 * record["hard"], rel=1e-5)


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
    nn.functional.cross_entropy(twin(batch.images), batch.labels).backward()
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

    def objective(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        seen.append(logits.dtype)
        return CrossEntropy()(logits, batch)

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

    def objective(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"loss": logits.sum() * 0 + (bad if epochs else 1.0)}

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


# --- modes and prediction


def test_fit_trains_in_train_mode_after_each_validation_and_ends_in_eval_mode(small_net, recipe, few, digits):
    model, modes = small_net().eval(), []

    def objective(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        modes.append(all(module.training for module in model.modules()))
        return CrossEntropy()(logits, batch)

    fit(model, Batches(few, 50, 0, CPU), objective, recipe(epochs=3), digits.validation)
    assert modes == [True] * 9
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("training", [True, False])
def test_predict_switches_dropout_off_and_leaves_the_mode_as_it_was(small_net, few, training):
    model = small_net().train(training)
    first = predict(model, few, CPU)
    assert torch.equal(first, predict(model, few, CPU))
    assert all(module.training is training for module in model.modules())
    model.eval()
    torch.testing.assert_close(first, model(next(few.images.stream([torch.arange(150)], CPU)).float() / 255).detach())


def test_predict_leaves_batch_norm_as_it_is(few):
    model = resnet(10, (1, 8, 8), depth=8).train()
    before = copy.deepcopy(model.state_dict())
    predict(model, few, CPU)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("samples", [255, 256, 257, 300, 512, 513])
def test_predict_gives_a_row_a_sample_in_order_for_any_length(digits, small_net, samples):
    model = small_net()
    split = digits.train.select(torch.arange(samples) % len(digits.train))
    logits = predict(model, split, CPU)
    assert (logits.shape, logits.dtype) == ((samples, 10), torch.float32)
    model.eval()
    direct = model(next(split.images.stream([torch.arange(samples)], CPU)).float() / 255).detach()
    torch.testing.assert_close(logits, direct, rtol=1e-5, atol=1e-6)


def test_the_padded_tail_of_predict_equals_the_same_rows_asked_for_alone_or_in_other_order(digits, small_net):
    model, split = small_net(), digits.train.select(torch.arange(300))
    logits = predict(model, split, CPU, Shift(2), 4, view=3)
    for positions in (
        torch.arange(256, 300),
        torch.arange(300).flip(0),
        torch.tensor([299]),
        torch.tensor([3, 3, 280]),
    ):
        rows = predict(model, split, CPU, Shift(2), 4, view=3, positions=positions)
        torch.testing.assert_close(rows, logits[positions], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(predict(model, split, CPU, Shift(2), 4, view=2), logits)


def test_predict_pads_so_that_batch_composition_cannot_matter(digits):
    class Sizes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[int] = []

        def forward(self, images: Tensor) -> Tensor:
            self.seen.append(len(images))
            return images.flatten(1)[:, :10]

    model, split = Sizes(), digits.train.select(torch.arange(600))
    assert [len(rows) for rows in predictions(model, split, CPU)] == [256, 256, 88]
    assert model.seen == [256, 256, 256]


def test_the_number_of_threads_is_restored_after_training(small_net, recipe, few):
    before = torch.get_num_threads()
    fit(small_net(), Batches(few, 32, 0, CPU), CrossEntropy(), recipe(epochs=1))
    assert torch.get_num_threads() == before


# --- refusals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "train.epochs must be a whole number ≥ 1, got 0."),
        ({"epochs": 1.5}, "train.epochs must be a whole number ≥ 1, got 1.5."),
        ({"batch_size": True}, "train.batch_size must be a whole number ≥ 1, got True."),
        ({"precision": 16}, "train.precision must be one of auto, 32, bf16-mixed, 16-mixed, got '16'."),
        ({"max_norm": 0}, "train.max_norm must be > 0 or null, got 0."),
        ({"max_norm": "3"}, "train.max_norm must be > 0 or null, got '3'."),
        ({"clip": -1}, "train.clip must be > 0 or null, got -1."),
        ({"clip": math.nan}, "train.clip must be > 0 or null, got nan."),
        ({"clip": True}, "train.clip must be > 0 or null, got True."),
        ({"select": "best"}, "train.select must be last or best_validation, got 'best'."),
    ],
)
def test_a_recipe_outside_its_rules_is_refused(recipe, changes, message):
    with pytest.raises(ConfigError) as refusal:
        recipe(**changes)
    assert str(refusal.value) == message


def test_a_precision_typed_as_a_number_is_understood(recipe):
    assert recipe(precision=32).precision == "32"


def test_values_that_torch_refuses_are_refused_before_training(small_net, recipe, few):
    with pytest.raises(ConfigError, match=r"^train\.optimizer must be one that torch accepts, got .*learning rate: -1"):
        fit(small_net(), Batches(few, 32, 0, CPU), CrossEntropy(), recipe(lr=-1.0))


def test_auto_finds_a_device_and_a_missing_one_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert find_device("auto") == find_device("cpu") == CPU
    with pytest.raises(ConfigError) as refusal:
        find_device("cuda")
    assert str(refusal.value) == "device must be one that this machine has (auto, cpu), got 'cuda'."


def test_images_stay_where_the_split_keeps_them_untouched(few, small_net, recipe):
    before = few.images.digest
    fit(small_net(), Batches(few, 32, 0, CPU, Shift(1)), CrossEntropy(), recipe(epochs=1))
    assert Resident(next(few.images.stream([torch.arange(150)], CPU))).digest == before
    assert isinstance(few, Split)
