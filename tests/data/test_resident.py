import torch

from kd_cli.data import resident
from kd_cli.data.resident import Resident


def test_resident_images_have_checksums_and_a_digest_of_their_bytes():
    images = Resident(torch.arange(24, dtype=torch.uint8).view(3, 2, 2, 2))
    same = Resident(images.values.clone().permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2))
    other = Resident(images.values.index_fill(0, torch.tensor([1]), 9))
    assert torch.equal(images.checksums(), same.checksums())
    assert images.digest == same.digest
    assert (images.checksums() == other.checksums()).tolist() == [True, False, True]
    assert images.digest != other.digest
    assert images.digest != Resident(images.values.view(3, 1, 2, 4)).digest
    assert torch.equal(images.select(torch.tensor([2, 0])).checksums(), images.checksums()[[2, 0]])


def test_images_that_do_not_fit_on_the_device_are_streamed_and_it_says_so(monkeypatch, caplog) -> None:
    images = Resident(torch.arange(48, dtype=torch.uint8).view(6, 1, 2, 4))
    order = [torch.tensor([3, 0]), torch.tensor([5])]
    monkeypatch.setattr(resident, "fits", lambda device, size: size < 48)
    with caplog.at_level("INFO", "kd"):
        shown = list(images.stream(order, torch.device("meta")))
    assert [part.shape for part in shown] == [(2, 1, 2, 4), (1, 1, 2, 4)]
    assert {part.device.type for part in shown} == {"meta"}
    assert images._placed[torch.device("meta")].device.type == "cpu"
    assert "do not fit on the device beside training: streamed" in caplog.text
