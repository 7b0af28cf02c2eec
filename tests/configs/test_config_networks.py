"""What the files describe can be built."""

from inspect import signature
from typing import Any

import pytest
import torch
from composing import check_arguments, composed, names, offline
from omegaconf import OmegaConf
from torch import nn

from kd_cli.build.objects import instantiate
from kd_cli.cli import schema
from kd_cli.cli.choices import CONFIGS
from kd_cli.data.augment import kind_of
from kd_cli.data.resident import Resident
from kd_cli.data.spec import BYTES, Spec, image_spec
from kd_cli.data.splits import whole
from kd_cli.data.texts import stored
from kd_cli.data.views import show
from kd_cli.teachers.specialists.network import Specialist
from kd_cli.teachers.specialists.source import Specialists
from kd_cli.teachers.trained import Trained

# What a recipe is for, by the first line of its YAML: samples such as a data set that exists holds.
SAMPLES = {
    "digits": image_spec((1, 8, 8)), "MNIST": image_spec((1, 28, 28)), "CIFAR": image_spec((3, 32, 32)),
    "folders": image_spec((3, 64, 64)), "confusable": image_spec((1, 12, 12)),
    "frame by frame": Spec("features", (440,)), "sounds": Spec("features", (40, 50)),
    "texts": Spec("text", (64,), vocabulary=BYTES), "magika": Spec("text", (512,), vocabulary=257),
}  # fmt: skip
MODELS = {  # of what is not for images, by the first word of the name
    "bilstm": "texts", "bow": "texts", "textcnn": "texts", "transformer": "texts", "byte": "magika",
    "cnn1d": "sounds", "cnn2d": "sounds", "frames": "frame by frame", "torchvision": "folders",
}  # fmt: skip
TEXTS = stored([b"what is said", b"and what is not"], 64)  # that tokenizers are trained on


def samples_of(group: str, name: str) -> Spec:
    first = (CONFIGS / group / f"{name}.yaml").read_text().splitlines()[0]
    found = [spec for word, spec in SAMPLES.items() if word in first]
    assert found, f"{group}/{name}.yaml does not say in its first line what it is for"
    return found[0]


def network_of(model: Any, spec: Spec) -> nn.Module:
    texts = {"texts": TEXTS} if "texts" in signature(model).parameters else {}
    network: nn.Module = model(num_classes=7, **spec.arguments(model), **texts)
    network.eval()
    with torch.inference_mode():
        logits = network(torch.rand(2, *spec.shape) if spec.kind != "text" else spec.blank(2))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    return network


PUBLISHED = ("byte_cnn", "distil", "hf", "timm", "tuned_text")  # whose networks are files, or are for bytes
NOT_TRAINED = (
    "artifact", "checkpoint", "ensemble", "http", "onnx", "predictions", "specialists", "torchvision", "tuned",
    *PUBLISHED,
)  # fmt: skip  # or not by a recipe for one network


@pytest.mark.parametrize("name", [name for name in names("teacher") if name not in NOT_TRAINED])
def test_every_teacher_is_built(name: str) -> None:
    cfg = composed("distill", f"teacher={name}")
    offline(cfg, "teacher.model")
    source = instantiate(cfg.teacher, "teacher")
    assert isinstance(source, Trained)
    source.train.check(network_of(source.model, samples_of("teacher", name)), None)


@pytest.mark.parametrize("generalist", [name for name in names("teacher") if name not in NOT_TRAINED])
def test_every_trained_teacher_can_have_specialists(generalist: str) -> None:
    cfg = composed("distill", "teacher=specialists", f"teacher@teacher.generalist={generalist}")
    schema.check("distill", cfg)
    offline(cfg, "teacher.generalist.model")
    source = instantiate(cfg.teacher, "teacher")
    assert isinstance(source, Specialists)
    assert isinstance(source.generalist, Trained)
    source.check(classes=10)
    build, spec = source.generalist.model, samples_of("teacher", generalist)
    Specialist(5, spec, build).start_from(network_of(build, spec), [0, 2, 3, 6], 7)


@pytest.mark.parametrize("name", [name for name in names("student") if name not in PUBLISHED])
def test_every_student_is_built_and_holds_no_augmentation(name: str) -> None:
    cfg = composed("distill", f"student={name}")
    offline(cfg, "student.model")
    recipe = instantiate(cfg.student.train, "student.train")
    recipe.check(network_of(instantiate(cfg.student.model, "student.model"), samples_of("student", name)), None)
    assert "augment" not in cfg.student


def test_the_students_precision_follows_the_key_that_people_type_the_teachers_is_its_own() -> None:
    precision = "16-mixed"  # no recipe has it
    for name in names("student"):
        cfg = composed("distill", f"student={name}", f"precision={precision}")
        assert str(cfg.student.train.precision) == precision
    for name in set(names("teacher")) - set(NOT_TRAINED):
        own = composed("distill", f"teacher={name}").teacher.train.precision
        assert composed("distill", f"teacher={name}", f"precision={precision}").teacher.train.precision == own


@pytest.mark.parametrize("name", [name for name in names("model") if name not in PUBLISHED])
def test_every_model_takes_the_place_of_a_students(name: str) -> None:
    cfg = composed("distill", f"model@student.model={name}")
    offline(cfg, "student.model")
    network_of(instantiate(cfg.student.model, "student.model"), SAMPLES[MODELS.get(name.partition("_")[0], "MNIST")])


@pytest.mark.parametrize("optimizer", names("optimizer"))
@pytest.mark.parametrize("scheduler", names("scheduler"))
def test_every_optimizer_goes_with_every_scheduler(optimizer: str, scheduler: str) -> None:
    cfg = composed(
        "distill", f"optimizer@student.train.optimizer={optimizer}", f"scheduler@student.train.scheduler={scheduler}"
    )
    assert check_arguments(OmegaConf.to_container(cfg.student, resolve=True)) == 4
    recipe = instantiate(cfg.student.train, "student.train")
    made, schedule = recipe.build(nn.Linear(2, 2), steps=3)
    for _ in range(3 * recipe.epochs):
        made.step()
        schedule.step()


@pytest.mark.parametrize("name", names("augment"))
def test_every_augmentation_is_built_and_keeps_the_shape(name: str) -> None:
    cfg = composed("distill", f"augment@transfer.augment={name}")
    assert check_arguments(OmegaConf.to_container(cfg.transfer.augment)) == 1
    augment = instantiate(cfg.transfer.augment, "transfer.augment")
    samples = {
        "image": Resident(torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)),
        "text": stored([b"what is said", b"and what is not", b"or"], 64),
        "audio": Resident(torch.rand(3, 4000), Spec("audio", (4000,), sample_rate=8000)),
        "features": Resident(torch.rand(3, 40, 50), Spec("features", (40, 50))),
    }[kind_of(augment)]
    split, every = whole(samples, torch.arange(3)), [torch.arange(3)]
    (given,) = samples.stream(every, torch.device("cpu"))
    (seen,) = show(split, every, torch.device("cpu"), augment, 0, 1)
    assert (seen.stored.shape, seen.stored.dtype) == (given.shape, given.dtype)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("key", ["transfer.augment", "teacher.augment"])
def test_a_mixture_takes_what_both_images_go_through_first_from_the_same_group(name: str, key: str) -> None:
    assert OmegaConf.select(composed("distill", f"augment@{key}={name}"), f"{key}.inner", default="absent") is None
    cfg = composed("distill", f"augment@{key}={name}", f"augment@{key}.inner=crop_flip", f"{key}.inner.pixels=3")
    assert check_arguments(OmegaConf.to_container(cfg, resolve=True)[key.split(".")[0]]["augment"]) == 2
    assert instantiate(OmegaConf.select(cfg, key), key).inner.pixels == 3


@pytest.mark.parametrize("name", names("objective"))
def test_every_objective_is_built_from_the_keys_that_people_type(name: str) -> None:
    cfg = composed("distill", f"objective={name}", "temperature=3", "soft_weight=0.5", "hard_weight=0.25")
    objective = instantiate(cfg.objective, "objective")
    assert getattr(objective, "temperature", 3) == 3
    assert (objective.soft_weight, objective.hard_weight) == (0.5, 0.25)
