import pytest
import torch

from kd_cli.models.dropout import Dropout


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_zeroes_its_share_and_keeps_the_mean(rate):
    torch.manual_seed(0)
    out = Dropout(rate)(torch.ones(301, 333))
    dropped = out == 0
    assert float(dropped.float().mean()) == pytest.approx(rate, abs=0.01)
    torch.testing.assert_close(out[~dropped].unique(), torch.tensor([1 / (1 - rate)]))
    shares = dropped.float().mean(0)  # of each unit, over the samples: none is favoured
    assert float((shares - rate).abs().max()) < 0.15


def test_dropout_masks_differ_between_samples_and_steps_and_follow_the_seed():
    dropout, ones = Dropout(0.5), torch.ones(4, 50)
    torch.manual_seed(1)
    first, second = dropout(ones), dropout(ones)
    torch.manual_seed(1)
    assert torch.equal(dropout(ones), first)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_dropout_passes_gradients_through_the_same_mask_and_nothing_in_eval_mode():
    x = torch.ones(5, 7, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())
    assert torch.equal(Dropout(0.5).eval()(x), x)


@pytest.mark.parametrize(("rate", "zeros"), [(1e-9, 0), (1 - 1e-9, 100)])
def test_dropout_bears_every_rate_that_is_allowed(rate, zeros):
    torch.manual_seed(0)
    assert int((Dropout(rate)(torch.ones(100)) == 0).sum()) == zeros
