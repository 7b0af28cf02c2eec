import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import nn

from kd_cli.measure import evaluation, metrics
from kd_cli.measure.evaluation import evaluate, latency_ms
from kd_cli.measure.prediction import predict
from kd_cli.models.resnet import resnet

CPU = torch.device("cpu")
CLASSES = tuple("0123456789")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(evaluation, "LATENCY_SECONDS", 0.0)


def test_figures_are_those_of_the_models_predictions(small_net, digits):
    model = small_net()
    figures = evaluate(model, digits.test, CLASSES, CPU).measured
    logits, labels = predict(model, digits.test, CPU), digits.test.labels
    probabilities = logits.double().softmax(1).numpy()
    assert figures.n == 599
    assert figures.accuracy == pytest.approx(accuracy_score(labels, logits.argmax(1)))
    assert figures.errors == round((1 - figures.accuracy) * 599)
    assert figures.nll == pytest.approx(log_loss(labels.numpy(), probabilities, labels=range(10)))
    assert figures.ece == metrics.ece(logits, labels)
    assert sum(count.errors for count in figures.per_class.values()) == figures.errors
    assert sum(count.n for count in figures.per_class.values()) == 599
    assert list(figures.per_class) == list(CLASSES)


def test_figures_tell_what_the_model_costs(small_net, few):
    figures = evaluate(small_net(), few, CLASSES, CPU).measured
    parameters = 64 * 24 + 24 + 24 * 10 + 10
    assert figures.params == parameters
    assert figures.bytes == 4 * (parameters + 2)  # and the two buffers of the normalisation
    assert figures.flops == 2 * (64 * 24 + 24 * 10)
    assert set(figures.latency_ms) == {"1", "256"}
    assert all(latency > 0 for latency in figures.latency_ms.values())


def test_a_teacher_adds_agreement_and_divergence(small_net, few):
    student, teacher = small_net(1), predict(small_net(2), few, CPU)
    found = evaluate(student, few, CLASSES, CPU, teacher)
    assert found.measured.agreement == np.mean(found.logits.argmax(1).numpy() == teacher.argmax(1).numpy())
    assert found.measured.kl_to_teacher == pytest.approx(metrics.kl_to_teacher(found.logits, teacher))
    own = evaluate(student, few, CLASSES, CPU, found.logits).measured
    assert (own.agreement, own.kl_to_teacher) == (1.0, pytest.approx(0, abs=1e-9))
    alone = evaluate(student, few, CLASSES, CPU).measured
    assert (alone.agreement, alone.kl_to_teacher) == (None, None)


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_evaluated_in_eval_mode_and_comes_back_as_it_was(few, training):
    model = resnet(10, (1, 8, 8), depth=8).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, few, CLASSES, CPU)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training is training for module in model.modules())


@pytest.mark.parametrize("batch", [1, 7])
def test_latency_is_the_median_of_warm_passes_at_the_batch_size(monkeypatch, batch):
    class Clocked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.now, self.sizes = 0.0, []

        def forward(self, images):
            assert not self.training
            self.sizes.append(len(images))
            self.now += 0.5 if len(self.sizes) <= 2 else 0.001 * len(self.sizes)  # two slow passes to warm up
            return images

    model = Clocked()
    monkeypatch.setattr(evaluation.time, "perf_counter", lambda: model.now)
    found = latency_ms(model, torch.zeros(1, 1, 2, 2), batch)
    assert set(model.sizes) == {batch}
    assert found == pytest.approx(np.median(range(3, len(model.sizes) + 1)))


class Far(nn.Module):
    """Answers by distances to prototypes, for which there is no count."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.rand(10, 64))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return -torch.cdist(images.flatten(1), self.prototypes)


def test_operations_that_nobody_knows_are_null(few):
    assert evaluate(Far(), few, CLASSES, CPU).measured.flops is None
