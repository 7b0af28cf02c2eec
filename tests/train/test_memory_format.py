"""In which order convolutions lie in memory: chosen where it gains, left where torch would corrupt memory."""

import ctypes.util
import json
import sys
from pathlib import Path

import pytest
import torch
from running import TINY, inside, kd
from torch import nn

from kd_cli.data.spec import image_spec
from kd_cli.datasets.digits import digits
from kd_cli.measure.flops import work_of
from kd_cli.models.cnn import cnn
from kd_cli.models.mlp import mlp
from kd_cli.models.resnet import resnet
from kd_cli.train.memory_format import chosen_memory_format

GREY, COLOUR = (1, 8, 8), (3, 32, 32)


def published(name: str) -> nn.Module:
    from torchvision import models

    return getattr(models, name)(num_classes=10)


NETWORKS = {
    "no convolution": (lambda: mlp(10, GREY), GREY, "contiguous"),
    "few channels": (lambda: cnn(10, GREY, (4, 8)), GREY, "contiguous"),
    "one dimension": (lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(1, 16, 3)), GREY, "contiguous"),
    "8 channels": (lambda: cnn(10, GREY, (8, 16)), GREY, "channels_last"),
    "digits": (lambda: cnn(10, GREY), GREY, "channels_last"),
    "narrow projections": (lambda: resnet(10, COLOUR, 8, (4, 4, 8, 16)), COLOUR, "contiguous"),
    "projections of 8": (lambda: resnet(10, COLOUR, 8, (8, 8, 16, 32)), COLOUR, "channels_last"),
    "an image skipped through": (
        lambda: nn.Sequential(nn.Conv2d(3, 16, 1, stride=2), nn.Conv2d(16, 16, 3)), COLOUR, "contiguous",
    ),
    "squeezed to 4": (lambda: published("efficientnet_b0"), COLOUR, "channels_last"),
    "mobilenet": (lambda: published("mobilenet_v3_small"), COLOUR, "channels_last"),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_last_where_it_gains_and_is_safe(name):
    make, shape, expected = NETWORKS[name]
    convolutions = work_of(make(), image_spec(shape)).convolutions
    assert chosen_memory_format("auto", convolutions) == expected
    assert [chosen_memory_format(asked, convolutions) for asked in ("contiguous", "channels_last")] == [
        "contiguous",
        "channels_last",
    ]


# As on a processor without AVX-512, with malloc watching its blocks where this C library can.
WATCHED = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
if sys.platform == "linux" and (found := ctypes.util.find_library("c_malloc_debug")):
    WATCHED |= {"LD_PRELOAD": found, "MALLOC_CHECK_": "3"}
TEACHER = ("teacher=resnet20", "teacher.model.depth=8", "teacher.model.widths=[4,4,8,16]", "teacher.model.mean=[0.5]",
           "teacher.model.std=[0.5]", "teacher.online=false", "teacher.train.epochs=1")  # fmt: skip
STUDENT = ("student=resnet8", "student.model.widths=[3,3,6,12]", "student.model.mean=[0.5]", "student.model.std=[0.5]",
           "student.train.epochs=1")  # fmt: skip


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose convolutions have fewer channels than fill a register, in a process of its own."""
    folder = tmp_path_factory.mktemp("narrow")
    done = kd("distill", *TEACHER, *STUDENT, cwd=folder, **WATCHED)
    assert done.status == 0, done.err[-2000:]
    return done.run


def test_narrow_convolutions_are_trained_dumped_and_evaluated_without_harm(narrow):
    result = json.loads((narrow / "result.json").read_text())
    assert result["environment"]["instructions"].endswith("ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2")
    (about,) = narrow.parents[1].glob("soft_targets/*/manifest.json")
    assert json.loads(about.read_text())["memory_format"] == "contiguous"
    done = kd("evaluate", f"path={narrow}", "format=json", cwd=narrow, **WATCHED)
    assert done.status == 0, done.err[-2000:]
    assert json.loads(done.out)["errors"] == result["student"]["errors"]


def test_narrow_convolutions_predict_without_harm(narrow, tmp_path):
    from PIL import Image

    pixels = next(digits().test.samples.stream([torch.arange(8)], torch.device("cpu")))
    for k, image in enumerate(pixels):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{k}.png")
    done = kd("predict", f"path={narrow}", f"images={tmp_path}", cwd=tmp_path, **WATCHED)
    assert (done.status, len(done.out.splitlines())) == (0, 9), done.err[-2000:]


@pytest.mark.slow
def test_the_compiler_leaves_narrow_convolutions_as_they_lie(tmp_path):
    done = kd("train-teacher", *TEACHER, "compile=true", cwd=tmp_path, **WATCHED)
    assert done.status == 0, done.err[-2000:]


def test_the_layout_is_a_persons_to_choose_and_in_no_identity(tmp_path):
    words = ("dump-targets", *TINY[:1])
    assert inside(*words, cwd=tmp_path).status == 0
    other = ("teacher.train.memory_format=contiguous", "transfer.fraction=0.9")
    assert inside(*words, *other, cwd=tmp_path).result["stages"]["teacher"]["cached"]
    dumps = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/soft_targets/*/manifest.json")]
    assert {about["samples"]: about["memory_format"] for about in dumps} == {1198: "channels_last", 1078: "contiguous"}


def test_a_layout_that_is_none_is_refused(tmp_path):
    done = inside("distill", "student.train.memory_format=rows", cwd=tmp_path)
    rule = "student.train.memory_format must be one of auto, contiguous, channels_last, got 'rows'."
    assert (done.status, rule in done.err) == (1, True), done.err
    assert not (tmp_path / "outputs").exists()
