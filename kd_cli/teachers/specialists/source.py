"""A generalist and specialists for the classes that it confuses (Hinton, Vinyals and Dean 2015, section 5)."""

from dataclasses import dataclass

from kd_cli.data.augment import Augment
from kd_cli.data.mixing import Mix
from kd_cli.errors import must
from kd_cli.ranges import whole_number
from kd_cli.teachers.checkpoint import Pretrained
from kd_cli.teachers.source import Single, Source
from kd_cli.train.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Specialists(Source):
    """`specialists` clusters of `classes_each` classes; those are asked that hold one of the generalist's `top_n`.

    `train` and `augment` are the specialists' own recipe, `seed` governs their training and the clustering. Whether the
    teacher is online is said here, not by the generalist.
    """

    generalist: Single
    specialists: int
    classes_each: int
    train: Recipe
    augment: Augment | Mix | None = None
    top_n: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.generalist, Single):
            hint = "To choose one, write teacher.generalist=mlp_1200."
            raise must(".generalist", "a single network", type(self.generalist).__name__, hint)
        if isinstance(self.generalist, Pretrained) and self.generalist.classes:
            hint = "Specialists take over its outputs, which must stand in the data set's order."
            raise must(".generalist.classes", "null for a generalist", list(self.generalist.classes), hint)
        for key, least in (("specialists", 1), ("classes_each", 1), ("top_n", 1), ("seed", 0)):
            whole_number(f".{key}", getattr(self, key), least)
        for key in ("class_weights", "start_from"):
            if getattr(self.train, key) is not None:
                hint = "Half of what they see is of their own classes, and they start from the generalist."
                raise must(f".train.{key}", "null for specialists", getattr(self.train, key), hint)
        if isinstance(self.augment, Mix):
            hint = "Half of a specialist's samples are to be of its own classes, and partners come from all."
            raise must(".augment", "without mixtures for specialists", type(self.augment).__name__, hint)

    def check(self, classes: int) -> None:
        """Refuses more than a data set of so many classes has."""
        for key, most, why in (
            ("specialists", classes, "the number of classes"),
            ("classes_each", classes - 2, "the number of classes less a dustbin of two"),
            ("top_n", classes, "the number of classes"),
        ):
            if getattr(self, key) > most:
                raise must(f"teacher.{key}", f"at most {most}, {why}", getattr(self, key))
