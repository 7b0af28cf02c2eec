"""A teacher that stands in the store already: a teacher or a student of an earlier run."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from kd_cli.data.samples import Dataset
from kd_cli.errors import ArtifactError, Phrase
from kd_cli.teachers.identity import weights_of
from kd_cli.teachers.source import Loader, Single


@dataclass(frozen=True, kw_only=True)
class Stored(Single):
    """`path` is a folder below `teachers/` or `students/`, or a run folder."""

    path: str

    def network(self, dataset: Dataset, load: Loader) -> nn.Module:
        """Return the stored network, if it was made for these classes and these inputs."""
        model, about = load(Path(self.path))
        its, ours = about["spec"], dataset.spec
        for key, theirs, wanted in (
            ("classes", tuple(about["classes"]), dataset.classes),
            ("kind of input", its.kind, ours.kind),
            ("input shape", its.shape, ours.shape),
            ("vocabulary", its.vocabulary, ours.vocabulary),
            ("sample rate", its.sample_rate, ours.sample_rate),
            ("parts of an input", its.parts, ours.parts),
            ("hearing", its.hearing, ours.hearing),
        ):
            if theirs != wanted:
                got = Phrase(f"{self.path!r}, whose {key} is {_short(theirs)} instead of {_short(wanted)}")
                raise ArtifactError.must(".path", f"a model with the {key} of dataset={dataset.name}", got)
        return model

    def identity(self, network: nn.Module) -> dict[str, str]:
        """Return its weights; the structure stands in the config of its model."""
        return weights_of(network)


def _short(values: object) -> str:
    if not isinstance(values, list | tuple):
        return str(values)
    shown = ", ".join(str(value) for value in values[:10])
    return f"[{shown}{f', … ({len(values)} in all)' if len(values) > 10 else ''}]"
