"""The names that configs call what ships by: they stand in stored configs and inside identities, and outlive a file."""

import re
from importlib import import_module

from kd_cli.cli.choices import CONFIGS

TARGETS = [
    "hydra_plugins.kd_population.PopulationLauncher",
    "kd_cli.cli.job.Sweep",
    "kd_cli.data.augment.Affine",
    "kd_cli.data.augment.ResizedCrop",
    "kd_cli.data.augment.Shift",
    "kd_cli.data.augment_sounds.ShiftNoise",
    "kd_cli.data.augment_sounds.SpecAugment",
    "kd_cli.data.mixing.CutMix",
    "kd_cli.data.mixing.Mixup",
    "kd_cli.data.words.WordNoise",
    "kd_cli.datasets.audio_folder.audio_folder",
    "kd_cli.datasets.cifar.cifar10",
    "kd_cli.datasets.cifar.cifar100",
    "kd_cli.datasets.confusable.confusable",
    "kd_cli.datasets.digits.digits",
    "kd_cli.datasets.image_folder.image_folder",
    "kd_cli.datasets.magika.magika",
    "kd_cli.datasets.mnist.fashion_mnist",
    "kd_cli.datasets.mnist.mnist",
    "kd_cli.datasets.noise.noise",
    "kd_cli.datasets.spoken_digits.spoken_digits",
    "kd_cli.datasets.text.text",
    "kd_cli.models.bilstm.bilstm",
    "kd_cli.models.bow.bow",
    "kd_cli.models.byte_cnn.byte_cnn",
    "kd_cli.models.cnn.cnn",
    "kd_cli.models.hf.hf",
    "kd_cli.models.mlp.mlp",
    "kd_cli.models.pretrained.torchvision",
    "kd_cli.models.resnet.resnet",
    "kd_cli.models.sounds.cnn1d",
    "kd_cli.models.sounds.cnn2d",
    "kd_cli.models.textcnn.textcnn",
    "kd_cli.models.timm.timm",
    "kd_cli.models.transformer.transformer",
    "kd_cli.models.wrn.wrn",
    "kd_cli.objectives.hard_teacher.HardTeacher",
    "kd_cli.objectives.hinton.Hinton",
    "kd_cli.objectives.logit_matching.LogitMatching",
    "kd_cli.teachers.artifact.Stored",
    "kd_cli.teachers.checkpoint.Pretrained",
    "kd_cli.teachers.ensemble.Ensemble",
    "kd_cli.teachers.onnx.Onnx",
    "kd_cli.teachers.predictions.Predictions",
    "kd_cli.teachers.published.Published",
    "kd_cli.teachers.service.source.Http",
    "kd_cli.teachers.specialists.source.Specialists",
    "kd_cli.teachers.trained.Trained",
    "kd_cli.train.plateau.Plateau",
    "kd_cli.train.recipe.Recipe",
    "kd_cli.train.schedules.constant",
    "kd_cli.train.schedules.cosine",
    "kd_cli.train.schedules.multi_step",
    "kd_cli.train.schedules.one_cycle",
    "torch.optim.Adam",
    "torch.optim.AdamW",
    "torch.optim.RMSprop",
    "torch.optim.SGD",
]


def named() -> list[str]:
    """Every `_target_` in the shipped configs, sorted; a comment's is none."""
    found: set[str] = set()
    for path in CONFIGS.rglob("*.yaml"):
        found.update(re.findall(r"^[^#\n]*\b_target_:\s*([\w.]+)", path.read_text("utf-8"), re.MULTILINE))
    return sorted(found)


def test_what_configs_name_is_named_as_ever() -> None:
    assert named() == TARGETS


def test_every_name_in_a_config_is_that_of_something_that_can_be_called() -> None:
    for name in named():
        module, _, attribute = name.rpartition(".")
        assert callable(getattr(import_module(module), attribute)), name
