"""A teacher whose weights come from elsewhere, stored like one that kd trained: whoever has the run has the teacher."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from kd_cli.build.identity import identity_of
from kd_cli.models.chosen import built_from
from kd_cli.steps.plan import Part
from kd_cli.steps.setting import Setting
from kd_cli.steps.trained_model import title_of, write_model
from kd_cli.store.artifacts import Artifact
from kd_cli.store.models import largest_of, load_weights
from kd_cli.teachers.checkpoint import Pretrained
from kd_cli.teachers.identity import weights_of
from kd_cli.teachers.published import Published

VERSION = 1  # raised whenever kd stores the same teacher otherwise


@dataclass(frozen=True)
class GivenTeacher:
    """The step that stores a `network` as `part` describes it, which `source` has filled with its weights."""

    part: Part
    source: Pretrained | Published
    network: nn.Module
    setting: Setting
    kind: str = "teachers"
    deps: tuple[str, ...] = ()

    @property
    def stage(self) -> str:
        """See `Step`."""
        return self.part.stage

    @property
    def config(self) -> Any:
        """What the network is built from."""
        return built_from(self.part.config["model"], self.network)

    @property
    def identity(self) -> dict[str, Any]:
        """Its weights, its network and what its outputs mean; not where the file lies."""
        dataset = self.setting.dataset
        about = {"model": identity_of(self.config), "classes": list(dataset.classes), "spec": dataset.spec.stored()}
        return {"stage": "given", "version": VERSION, **about, **weights_of(self.network)}

    @property
    def title(self) -> str:
        """Its network, the number of its classes and the name of its file."""
        where = self.source.path if isinstance(self.source, Pretrained) else self.source.name or "a library"
        name = f"from {Path(where).name}"
        return title_of(self.part.config["model"], len(self.setting.dataset.classes), name)

    @property
    def largest(self) -> int:
        """See `Step`."""
        return largest_of(self.network)

    def make(self, folder: Path, ends: ExitStack) -> dict[str, Any]:
        """Write the network."""
        setting = self.setting
        write_model(folder, self.identity, self.network, self.config, setting.dataset, setting.dataset_config)
        return {"environment": setting.circumstances.environment("32")}

    def load(self, artifact: Artifact) -> None:
        """Fill the network with the stored weights: they are the same."""
        load_weights(self.network, artifact)
