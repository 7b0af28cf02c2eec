import pytest
import torch
from torch import nn
from watching import Seen

from kd_cli import device
from kd_cli.data.augment import Affine, ResizedCrop, Shift, uniform
from kd_cli.data.mixing import CutMix, Mixup
from kd_cli.data.views import show
from kd_cli.device import find_device
from kd_cli.measure.evaluation import latency_ms
from kd_cli.measure.flops import work_on
from kd_cli.measure.prediction import predict, predictions
from kd_cli.models.cnn import cnn
from kd_cli.objectives.hinton import Hinton
from kd_cli.store.artifacts import Store, read_artifact
from kd_cli.targets.soft_targets import SoftTargets, Storage, write_targets
from kd_cli.train.batches import Batches
from kd_cli.train.fit import fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def net():
    def make() -> nn.Module:
        torch.manual_seed(0)
        return cnn(10, (1, 8, 8), channels=[8, 16], widths=[32], dropout=0.5)

    return make


@pytest.fixture
def targets(tmp_path, digits, net):
    def fill(folder):
        teacher = net()
        write_targets(
            folder, lambda view: predictions(teacher, digits.train, GPU, Shift(2), 3, view), digits.train, 2, Storage()
        )
        return {}

    return SoftTargets(Store(tmp_path).write("soft_targets", {}, fill), GPU)


def test_auto_takes_the_gpu():
    assert find_device("auto") == find_device("cuda") == GPU


def test_augmentation_draws_the_same_parameters_on_the_gpu():
    index = torch.arange(5000) * 977
    assert torch.equal(uniform(index, 7, 3, 5), uniform(index.to(GPU), 7, 3, 5).cpu())


@pytest.mark.parametrize(
    ("augment", "tolerance"),
    [(Shift(2, flip=True), 0), (Shift(3, triangular=True), 0), (ResizedCrop(), 1), (Affine(20), 1)],
)
def test_a_view_is_the_same_pixels_on_the_gpu(augment, tolerance):
    images = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    index = torch.arange(64)
    here, there = augment(images, index, 1, 2), augment(images.to(GPU), index.to(GPU), 1, 2).cpu()
    assert (here.int() - there.int()).abs().max() <= tolerance


@pytest.mark.parametrize("mix", [Mixup(0.4, Shift(1)), CutMix()])
def test_a_mixture_is_the_same_pixels_on_the_gpu(digits, mix):
    order = [torch.arange(100)]
    (here,), (there,) = (list(show(digits.train, order, device, mix, 1, 2)) for device in (CPU, GPU))
    for name in ("stored", "partners", "share"):
        assert torch.equal(getattr(here, name), getattr(there, name).cpu())


def test_predictions_agree_with_the_cpu_within_float32(digits, net):
    torch.testing.assert_close(predict(net(), digits.test, GPU), predict(net(), digits.test, CPU), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "16-mixed"])
def test_a_student_learns_from_stored_targets_in_every_precision(digits, net, targets, recipe, precision):
    records, model = [], net()
    batches = Batches(digits.train, 64, 0, GPU, Shift(2), 3, 2, targets)
    rule = recipe(lr=0.02, epochs=4, precision=precision, clip=1.0)
    fit(model, batches, Hinton(4.0, 0.5, 0.5), rule, digits.validation, watch=Seen(epoch=records.append))
    assert records[-1]["loss"] < records[0]["loss"]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert next(model.parameters()).device.type == "cuda"


def test_the_same_seed_gives_the_same_weights(digits, net, targets, recipe):
    trained = []
    for disturbance in (1, 2):
        model = net()
        torch.manual_seed(disturbance)
        batches = Batches(digits.train, 64, 0, GPU, Shift(2), 3, 2, targets)
        fit(model, batches, Hinton(4.0, 0.5, 0.5), recipe(lr=0.02))
        trained.append(nn.utils.parameters_to_vector(model.parameters()).detach().cpu())
    torch.testing.assert_close(*trained, rtol=1e-4, atol=1e-5)  # convolutions may sum in another order


def test_targets_on_the_gpu_pass_the_check_against_the_cpu(digits, net, targets):
    teacher = net()
    targets.check(
        digits.train, lambda view, positions: predict(teacher, digits.train, CPU, Shift(2), 3, view, positions)
    )
    assert all(view["logits"].device.type == "cuda" for view in targets.views)


def test_targets_that_do_not_fit_are_gathered_on_the_cpu(monkeypatch, targets):
    positions = torch.arange(50)
    there = targets(positions, 1, positions)
    monkeypatch.setattr(device, "RESIDENT_SHARE", 0.0)
    other = SoftTargets(read_artifact(targets.folder), GPU)
    assert all(view["logits"].device.type == "cpu" for view in other.views)
    assert torch.equal(other(positions, 1, positions), there)


def test_cost_is_measured_on_the_gpu(net):
    model = net().to(GPU)
    image = torch.rand(1, 1, 8, 8, device=GPU)
    assert latency_ms(model, image, 256) > 0
    assert work_on(model, image) == work_on(net(), image.cpu())
