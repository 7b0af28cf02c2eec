"""Every wrong input gets one message, exit status 1, no traceback, and leaves nothing behind."""

from pathlib import Path

import pytest
from images import choices
from running import files_below, inside, kd

QUOTE = "A shell replaces an unquoted ${…}: quote it, as in 'teacher.seed=${seed}'."
DATASETS = (
    "audio_folder, cifar10, cifar100, confusable, digits, fashion_mnist, image_folder, magika, mnist, noise, "
    "spoken_digits, text"
)
IDX = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"
RULE = "a fraction below 1, a count below 1198 (the size of the training split), or 0"

NOISE = "dataset@transfer.dataset=noise transfer.dataset.height=8 transfer.dataset.width=8"

# Found in the config, before torch is imported.
WITHOUT_TORCH = [
    ("temperature=0", "temperature must be a number > 0, got 0.0."),
    ("temperature=-1", "temperature must be a number > 0, got -1.0."),
    ("temperature=nan", "temperature must be a number > 0, got nan."),
    ("temperature=inf", "temperature must be a number > 0, got inf."),
    ("temperature=hot", "temperature must be a number, got 'hot'."),
    ("temperature=", "temperature must be a number, got ''."),
    ("soft_weight=-1", "soft_weight must be a number ≥ 0, got -1.0."),
    ("soft_weight=much", "soft_weight must be a number, got 'much'."),
    ("hard_weight=-0.5", "hard_weight must be a number ≥ 0, got -0.5."),
    ("hard_weight=nan", "hard_weight must be a number ≥ 0, got nan."),
    (
        "soft_weight=0 hard_weight=0",
        "soft_weight or hard_weight must be > 0, got 0. With both zero there is nothing to learn from.",
    ),
    ("dataset=mnits", f"dataset must be one of {DATASETS}, got 'mnits'. Did you mean 'mnist'?"),
    ("dataset=zzz", f"dataset must be one of {DATASETS}, got 'zzz'."),
    (
        "teacher=cnn_digit",
        f"teacher must be one of {choices('teacher')}, got 'cnn_digit'. Did you mean 'cnn_digits'?",
    ),
    (
        "+student.modle.widths=[3]",
        "student must be a mapping of model, train, got 'modle'. Did you mean 'model'?",
    ),
    ("student=mlp64", f"student must be one of {choices('student')}, got 'mlp64'. Did you mean 'mlp_64'?"),
    ("student=", f"student must be one of {choices('student')}, got ''."),
    ("objective=hintn", f"objective must be one of {choices('objective')}, got 'hintn'. Did you mean 'hinton'?"),
    ("model@student.model=cn", f"student.model must be one of {choices('model')}, got 'cn'. Did you mean 'cnn'?"),
    (
        "augment@transfer.augment=jiter",
        f"transfer.augment must be one of {choices('augment')}, got 'jiter'. Did you mean 'jitter'?",
    ),
    ("temprature=3", "temprature must be a key of kd distill, got 'temprature=3'. Did you mean 'temperature'?"),
    (
        "student.train.epoch=3",
        "student.train.epoch must be a key of kd distill, got 'student.train.epoch=3'. Did you mean 'epochs'?",
    ),
    (
        "student.model.wdths=[3]",
        "student.model.wdths must be a key of kd distill, got 'student.model.wdths=[3]'. Did you mean 'widths'?",
    ),
    ("seed=", f"seed must be a whole number, got ''. {QUOTE}"),
    ("seed=1.5", "seed must be a whole number, got '1.5'."),
    ("seed=abc", f"seed must be a whole number, got 'abc'. {QUOTE}"),
    ("seed=-1", "seed must be a whole number ≥ 0, got -1."),
    ("student.model=null", f"student.model must be one of {choices('model')}, got null."),
    ("teacher.seed=", f"teacher.seed must be a whole number ≥ 0, got ''. {QUOTE}"),
    ("teacher.seed=x", f"teacher.seed must be a whole number ≥ 0, got 'x'. {QUOTE}"),
    ("transfer.seed=1.5", "transfer.seed must be a whole number ≥ 0, got 1.5."),
    ("dataset.seed=-1", "dataset.seed must be a whole number ≥ 0, got -1."),
    (
        "student.model=cnnx",
        f"student.model must be one of {choices('model')}, got 'cnnx'. Did you mean 'cnn'?",
    ),
    (
        "teacher.model=cnnx",
        f"teacher.model must be one of {choices('model')}, got 'cnnx'. Did you mean 'cnn'?",
    ),
    (
        "student.train.optimizer=adamwx",
        f"student.train.optimizer must be one of {choices('optimizer')}, got 'adamwx'. Did you mean 'adamw'?",
    ),
    (
        "transfer.augment=jitterx",
        f"transfer.augment must be one of {choices('augment')}, got 'jitterx'. Did you mean 'jitter'?",
    ),
    (
        "transfer.augment=mixup transfer.augment.inner='jitter'",
        "transfer.augment.inner must be a mapping, got 'jitter'. It names a file as transfer.augment.inner=jitter on "
        "the command line, and as `/augment@transfer.augment.inner: jitter` in defaults.",
    ),
    (
        "augment@transfer.augment=cutmix augment@transfer.augment.inner=mixup",
        "transfer.augment.inner must be null or an augmentation of single images, got 'Mixup'. "
        "A mixture is of two images.",
    ),
    (
        "augment@teacher.augment=affine teacher.augment.degrees=200",
        "teacher.augment.degrees must be between 0 and 180, got 200.",
    ),
    (
        "transfer.dataset.size=28",
        "transfer.dataset.size must be a key of kd distill, got 'transfer.dataset.size=28'. "
        "Write: kd distill transfer.dataset=digits transfer.dataset.size=28",
    ),
    ("transfer.dataset=mnits", f"transfer.dataset must be one of {DATASETS}, got 'mnits'. Did you mean 'mnist'?"),
    ("bias_correction=priors", "bias_correction must be one of prior, oracle, got 'priors'."),
    (
        "bias_correction=oracle",
        "bias_correction must be prior or null without transfer.omit_classes or only_classes, got 'oracle'. "
        "It shifts the classes that these name.",
    ),
    ("device=gpu", "device must be one of auto, cpu, cuda, mps, cuda:<number>, got 'gpu'."),
    ("precision=16", "precision must be one of auto, 32, bf16-mixed, 16-mixed, got '16'."),
    ("budget=medium", "budget must be one of short, full, got 'medium'."),
    ("baseline=perhaps", "baseline must be true or false, got 'perhaps'."),
    ("compile=perhaps", "compile must be true or false, got 'perhaps'."),
    ("teacher=artifact", "teacher.path must be given: teacher.path=…"),
    ("teacher=checkpoint", f"teacher.model must be given, one of {choices('model')}: teacher.model=…"),
    (
        "foo",
        "An argument must be key=value, got 'foo'. Quote values that hold special characters: 'key=\"a value\"'.",
    ),
]

# Found once the objects are built, still before any work.
WITH_TORCH = [
    ("student.train.epochs=0", "student.train.epochs must be a whole number ≥ 1, got 0."),
    ("student.train.epochs=many", "student.train.epochs must be a whole number ≥ 1, got 'many'."),
    ("teacher.train.epochs=1.5", "teacher.train.epochs must be a whole number ≥ 1, got 1.5."),
    ("student.train.batch_size=0", "student.train.batch_size must be a whole number ≥ 1, got 0."),
    ("teacher.train.batch_size=-4", "teacher.train.batch_size must be a whole number ≥ 1, got -4."),
    ("student.train.clip=-1", "student.train.clip must be > 0 or null, got -1."),
    ("student.train.max_norm=0", "student.train.max_norm must be > 0 or null, got 0."),
    ("student.train.select=best", "student.train.select must be last or best_validation, got 'best'."),
    (
        "teacher.train.select=best_validation",
        "teacher.train.select must be last where there is no validation split, got 'best_validation'. "
        "Set dataset.validation=0.1.",
    ),
    (
        "student.train.optimizer.lr=-1",
        "student.train.optimizer must be one that torch accepts, got an error: Invalid learning rate: -1.",
    ),
    (
        "student.train.scheduler.warmup=2",
        "student.train.scheduler.warmup must be a share of the run, ≥ 0 and < 1, got 2.",
    ),
    ("student.train.precision=8", "student.train.precision must be one of auto, 32, bf16-mixed, 16-mixed, got '8'."),
    ("student.model.widths=[0]", "student.model.widths must be a list of whole numbers ≥ 1, got [0]."),
    ("student.model.widths=30", "student.model.widths must be a list of whole numbers ≥ 1, got 30."),
    ("teacher.model.dropout=1", "teacher.model.dropout must be ≥ 0 and < 1, got 1."),
    ("student.model.std=[0]", "student.model.std must be > 0, got [0]."),
    (
        "student=resnet20 normalisation.mean=[0.5071,0.4867,0.4408]",
        "student.model.mean must be one number, or one for each of 1 channel(s), got [0.5071, 0.4867, 0.4408].",
    ),
    ("teacher.online=maybe", "teacher.online must be true or false, got 'maybe'."),
    (
        "transfer.labels=none",
        "hard_weight must be 0 for a transfer set without labels, got 0.1. "
        "Set hard_weight=0, or set transfer.labels=all.",
    ),
    ("transfer.labels=2", "transfer.labels must be all, none or a fraction between 0 and 1, got 2."),
    ("transfer.labels=some", "transfer.labels must be all, none or a fraction between 0 and 1, got 'some'."),
    ("transfer.views=0", "transfer.views must be a whole number ≥ 1, got 0."),
    (
        "transfer.views=2",
        "transfer.views must be 1 where transfer.augment is null, got 2. Choose one: transfer.augment=jitter.",
    ),
    ("targets.dtype=int8", "targets.dtype must be one of float16, float32, got 'int8'."),
    ("+targets.k=3", "targets must be a mapping of dtype, top_k, temperatures, got 'k'."),
    ("targets.top_k=2.5", "targets.top_k must be a whole number, got '2.5'."),
    ("targets.top_k=0", "targets.top_k must be a whole number from 1 to 10, the number of classes, or null, got 0."),
    ("targets.top_k=11", "targets.top_k must be a whole number from 1 to 10, the number of classes, or null, got 11."),
    (
        "targets.top_k=3 teacher.online=true",
        "targets.top_k must be null with teacher.online=true, which stores no targets, got 3.",
    ),
    (
        "targets.top_k=3 targets.temperatures=[1,2]",
        "temperature must be one of those the stored targets state (1, 2), got 4.0. Add it to targets.temperatures.",
    ),
    (
        "targets.top_k=3 targets.temperatures=[0,4]",
        "targets.temperatures must be a list of numbers > 0, got [0.0, 4.0]. With targets.top_k they are all that the "
        "targets can serve: 'targets.temperatures=[1,4]'.",
    ),
    (
        "dataset=noise",
        "dataset must be one with labels and test images, got 'noise'. "
        "As a transfer set, unlabelled: transfer.dataset=noise.",
    ),
    (
        "dataset@transfer.dataset=noise",
        "transfer.dataset must be one with images of [1, 8, 8], as dataset=digits has, got [1, 28, 28]. "
        "Set transfer.dataset.height=8 transfer.dataset.width=8.",
    ),
    (
        "dataset@transfer.dataset=digits transfer.dataset.size=28",
        "transfer.dataset must be one with images of [1, 8, 8], as dataset=digits has, got [1, 28, 28]. "
        "Set transfer.dataset.size=8.",
    ),
    (
        NOISE,
        "hard_weight must be 0 for a transfer set without labels, got 0.1. "
        "Set hard_weight=0, or choose a transfer.dataset with labels of the classes of dataset=digits.",
    ),
    (
        f"{NOISE} hard_weight=0 transfer.omit_classes=[3]",
        "transfer.omit_classes must be null for a transfer set with unlabelled samples, whose classes nobody knows, "
        "got [3].",
    ),
    (f"{NOISE} transfer.dataset.std=0", "transfer.dataset.std must be > 0 and ≤ 1, got 0."),
    (f"{NOISE} transfer.dataset.seed=x", "transfer.dataset.seed must be a whole number ≥ 0, got 'x'."),
    ("dataset.size=0", "dataset.size must be a whole number from 1 to 256, got 0."),
    ("dataset.validation=5000", f"dataset.validation must be {RULE}, got 5000."),
    ("dataset.validation=-1", f"dataset.validation must be {RULE}, got -1."),
    (
        "dataset=mnist dataset.root=nowhere dataset.download=false",
        f"dataset.root must be a folder that holds mnist, got 'nowhere', where there is no {IDX} (.gz or unpacked), "
        f"and it was not downloaded. Put the four files {IDX} into nowhere or nowhere/MNIST/raw, "
        "or give another dataset.root=<folder>.",
    ),
    (
        "dataset=fashion_mnist dataset.root=nowhere dataset.download=false",
        f"dataset.root must be a folder that holds fashion_mnist, got 'nowhere', where there is no {IDX} (.gz or "
        f"unpacked), and it was not downloaded. Put the four files {IDX} into nowhere or nowhere/FashionMNIST/raw, "
        "or give another dataset.root=<folder>.",
    ),
    (
        "dataset=image_folder dataset.root=nowhere",
        "dataset.root must be a folder of images, got 'nowhere', which is not there. "
        "Lay it out as train/<class>/<image> or <class>/<image>, or give another dataset.root=<folder>.",
    ),
    (
        "teacher=artifact teacher.path=nowhere",
        "teacher.path must be a run folder or a folder of teachers/ or students/, got 'nowhere'.",
    ),
    (
        "teacher=checkpoint model@teacher.model=cnn teacher.path=x.pt",
        "teacher.path must be a checkpoint (.safetensors, .pt, .pth, .ckpt or .pth.tar), got 'x.pt', no file.",
    ),
]


@pytest.mark.parametrize(("overrides", "message"), WITHOUT_TORCH + WITH_TORCH)
def test_one_message_and_nothing_left_behind(overrides: str, message: str, tmp_path: Path) -> None:
    done = inside("distill", *overrides.split(" "), cwd=tmp_path)
    assert (done.status, done.out, done.err) == (1, "", message + "\n")
    assert files_below(tmp_path) == []


INSTALLED = [
    "temperature=0",
    "temperature=hot",
    "dataset=mnits",
    "student=mlp64",
    "temprature=3",
    "seed=",
    "student.model=cnnx",
    "soft_weight=0 hard_weight=0",
    "student.train.epochs=0",
    "transfer.labels=none",
    "teacher=artifact teacher.path=nowhere",
]


@pytest.mark.parametrize("overrides", INSTALLED)
def test_the_installed_command_says_the_same(overrides: str, tmp_path: Path) -> None:
    done = kd("distill", *overrides.split(" "), cwd=tmp_path)
    assert (done.status, done.out, done.err) == (1, "", dict(WITHOUT_TORCH + WITH_TORCH)[overrides] + "\n")
    assert files_below(tmp_path) == []
