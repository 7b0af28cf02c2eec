"""What was measured of a model on a split, as result.json has it. Never imports torch."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Count:
    """The samples of a class, and how many of them were given another one."""

    n: int
    errors: int


@dataclass(frozen=True, kw_only=True)
class Scores:
    """`errors` among `n` samples, their share that was right, and the mean negative log-likelihood in nats: None of a
    model that names its best class alone.
    """

    errors: int
    n: int
    accuracy: float
    nll: float | None


@dataclass(frozen=True, kw_only=True)
class MemberFigures(Scores):
    """A member of an ensemble by itself; `artifact` is None for one that comes from elsewhere."""

    ece: float | None
    artifact: str | None
    sound_errors: int | None = None


@dataclass(frozen=True, kw_only=True)
class Covering:
    """The samples whose class so many specialists know: errors of the generalist, and of all together."""

    specialists: int
    n: int
    generalist_errors: int
    errors: int


@dataclass(frozen=True, kw_only=True)
class Conditional:
    """Accuracy among the classes of the specialists that know a sample's; None where they know none in the split."""

    n: int
    generalist_accuracy: float | None
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Figures(Scores):
    """A model's figures. None stands where nothing could be measured, as a service's parameters.

    `flops` are those of one sample, `latency_ms` has a batch size's median milliseconds by its number in digits,
    `per_class` the classes in their order. A model that learnt has the share of labelled samples that its last epoch
    got right; a student its agreement with the teacher and KL(teacher ‖ student) in nats; one with another output bias
    the rule of that, the split that it was `selected_on`, and each class's shift. Of an ensemble there are its members,
    of specialists the generalist by itself, and which classes each of them knows. Where samples are frames of sounds,
    `sound_errors` are those of the `sounds` that the votes of their frames take for another.
    """

    ece: float | None
    params: int | None
    flops: int | None
    bytes: int | None
    latency_ms: dict[str, float | None] | None
    per_class: dict[str, Count]
    artifact: str | None
    agreement: float | None = None
    kl_to_teacher: float | None = None
    sound_errors: int | None = None
    sounds: int | None = None
    train_accuracy: float | None = None
    rule: str | None = None
    selected_on: str | None = None
    shift: dict[str, float] | None = None
    members: list[MemberFigures] | None = None
    generalist: Scores | None = None
    covering: list[Covering] | None = None
    conditional: Conditional | None = None
    sets: list[list[str]] | None = None
