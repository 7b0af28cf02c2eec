import copy

import pytest
import torch
from torch import Tensor, nn

from kd_cli.data.augment import Shift
from kd_cli.measure.prediction import predict, predictions
from kd_cli.models.resnet import resnet

CPU = torch.device("cpu")


@pytest.mark.parametrize("training", [True, False])
def test_predict_switches_dropout_off_and_leaves_the_mode_as_it_was(small_net, few, training):
    model = small_net().train(training)
    first = predict(model, few, CPU)
    assert torch.equal(first, predict(model, few, CPU))
    assert all(module.training is training for module in model.modules())
    model.eval()
    torch.testing.assert_close(first, model(next(few.samples.stream([torch.arange(150)], CPU)).float() / 255).detach())


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
    direct = model(next(split.samples.stream([torch.arange(samples)], CPU)).float() / 255).detach()
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
