"""Plug-ins for the tests, of samples that are no images: texts, texts with a mask, sounds and rows of features."""

from pathlib import Path

CODE = '''
from pathlib import Path

import torch
from torch import nn

from kd_cli.data.resident import Resident
from kd_cli.data.spec import Spec
from kd_cli.data.splits import assemble, whole
from kd_cli.objectives.hinton import Hinton

COUNT, LENGTH, VOCABULARY = 240, 8, 12


def texts(masked=False, vocabulary=VOCABULARY, validation=0, seed=0):
    """Is most of a text out of the upper half of the vocabulary?"""
    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(0, VOCABULARY, (COUNT, LENGTH), generator=draw)
    mask = torch.arange(LENGTH) < torch.randint(1, LENGTH + 1, (COUNT, 1), generator=draw)
    if not masked:
        mask = torch.ones_like(mask)
    labels = 2 * ((ids >= VOCABULARY // 2) & mask).sum(1) > mask.sum(1)
    inputs = {"ids": ids.int(), "mask": mask.to(torch.uint8)} if masked else ids
    spec = Spec("text", (LENGTH,), vocabulary=vocabulary, parts=("ids", "mask") if masked else ())
    return _halves("texts", Resident(inputs, spec), labels, ["low", "high"], spec, validation, seed)


def rows(kind="features", validation=0, seed=0, spoilt=False):
    """Which of three centres is the nearest?"""
    draw = torch.Generator().manual_seed(4)
    centres = torch.randn(3, 6, generator=draw)
    labels = torch.arange(COUNT) % 3
    values = centres[labels] + 0.5 * torch.randn(COUNT, 6, generator=draw)
    if spoilt:
        values[7, 2] = torch.nan
    spec = Spec(kind, (6,), sample_rate=8000 if kind == "audio" else None)
    return _halves("rows", Resident(values, spec), labels, ["a", "b", "c"], spec, validation, seed)


def _halves(name, samples, labels, classes, spec, validation, seed):
    split = whole(samples, labels)
    half = torch.arange(COUNT // 2)
    return assemble(name, split.select(half), split.select(half + COUNT // 2), classes, spec, validation, seed)


class Bag(nn.Module):
    """Embeds token ids, lets them attend to one another where asked, and averages them."""

    def __init__(self, num_classes, vocabulary, width, attention):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True) if attention else None
        self.head = nn.Linear(width, num_classes)

    def forward(self, inputs):
        masked = not isinstance(inputs, torch.Tensor)
        ids, mask = (inputs["ids"], inputs["mask"]) if masked else (inputs, torch.ones_like(inputs))
        assert ids.dtype == torch.int64
        x = self.embedding(ids)
        if self.attention is not None:
            x = x + self.attention(x, x, x, key_padding_mask=mask == 0, need_weights=False)[0]
        return self.head((x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


def bag(num_classes, spec, width=8, attention=False):
    return Bag(num_classes, spec.vocabulary, width, attention)


def layers(num_classes, input_shape, width=8):
    return nn.Sequential(nn.Linear(input_shape[0], width), nn.ReLU(), nn.Linear(width, num_classes))


def shuffled(stored, index, seed, view):
    """The tokens in another order, which is drawn for each view."""
    order = torch.randperm(LENGTH, generator=torch.Generator().manual_seed(1000 * seed + view))
    return stored[:, order]


shuffled.kind = "text"


class Breaking(Hinton):
    """Fails in its 40th batch, while there is a file called `broken`."""

    calls = 0

    def __call__(self, answer, batch):
        self.calls += 1
        if self.calls == 40 and Path("broken").exists():
            raise RuntimeError("as it was asked to")
        return super().__call__(answer, batch)
'''
ROLE = """
defaults:
  - /optimizer@train.optimizer: adam
  - /scheduler@train.scheduler: cosine
  - _self_

model:
  _target_: my_samples.{constructor}
  _partial_: true
  {keys}
train:
  _target_: kd_cli.train.recipe.Recipe
  epochs: {epochs}
  batch_size: 32
  precision: ${{precision}}
  accumulate: 1
  optimizer:
    lr: 0.02
"""
TEACHER = (
    ROLE.replace("${{precision}}", "auto")
    + """
_target_: kd_cli.teachers.trained.Trained
augment: null
seed: 0
online: false
"""
)


def write(folder: Path) -> tuple[str, ...]:
    """Writes the plug-ins into a folder of the user's; the words that make `kd` see them."""
    (folder / "my_samples.py").write_text(CODE)
    own = folder / "mine"
    for group in ("dataset", "teacher", "student", "augment", "objective"):
        (own / group).mkdir(parents=True)
    (own / "dataset" / "texts.yaml").write_text("_target_: my_samples.texts\nmasked: false\n")
    (own / "dataset" / "masked.yaml").write_text("_target_: my_samples.texts\nmasked: true\n")
    (own / "dataset" / "rows.yaml").write_text("_target_: my_samples.rows\nkind: features\n")
    (own / "augment" / "shuffled.yaml").write_text("_target_: my_samples.shuffled\n_partial_: true\n")
    weights = "".join(f"{key}: ${{{key}}}\n" for key in ("temperature", "soft_weight", "hard_weight"))
    (own / "objective" / "breaking.yaml").write_text(f"_target_: my_samples.Breaking\n{weights}")
    for name, constructor, wide, small in (
        ("bag", "bag", "{width: 16, attention: true}", "width: 8"),
        ("layers", "layers", "{width: 16}", "width: 8"),
    ):
        wide = wide.strip("{}").replace(", ", "\n  ")
        teacher = TEACHER.format(constructor=constructor, keys=wide, epochs=20)
        (own / "teacher" / f"{name}.yaml").write_text(teacher)
        (own / "student" / f"{name}.yaml").write_text(ROLE.format(constructor=constructor, keys=small, epochs=30))
    return "--config-dir", "mine"
