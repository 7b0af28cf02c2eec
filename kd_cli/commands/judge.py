"""The figures on the test split, which is looked at once, at the end."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from kd_cli.data.samples import Split
from kd_cli.measure.evaluation import Evaluation, evaluate, judge_answers
from kd_cli.measure.figures import Figures, MemberFigures
from kd_cli.steps.setting import Setting
from kd_cli.steps.specialists import specialists_figures
from kd_cli.teachers.teacher import Teacher


def judge(model: nn.Module, identity: Any, setting: Setting, teacher: Tensor | None = None) -> Evaluation:
    """Evaluate a model that `identity` determines; beside its `teacher`, whose logits they are, a student."""
    dataset = setting.dataset
    test = labelled_by(teacher, dataset.test)

    def figures() -> Evaluation:
        return evaluate(model, test, dataset.classes, setting.device, teacher, setting.latency)

    if teacher is not None:
        return figures()
    return setting.session.once(["evaluation", identity, dataset.fingerprint, setting.latency], figures)


def labelled_by(teacher: Tensor | None, test: Split) -> Split:
    """Return a test split; one without labels has the teacher's answers for them, from its logits."""
    return test if test.labelled or teacher is None else test.with_labels(teacher.argmax(1))


def judge_teacher(teacher: Teacher, setting: Setting) -> tuple[Figures, Tensor]:
    """Return the teacher's figures, with those of its members or of its generalist, and its logits. It has been found
    to answer for the test split.
    """
    evaluation, members = _judged(teacher, setting), []
    for member in teacher.members.values():
        its = _judged(member, setting).measured
        shared = {key: getattr(its, key) for key in ("errors", "n", "accuracy", "nll", "ece", "sound_errors")}
        members.append(MemberFigures(**shared, artifact=member.name))
    more: dict[str, Any] = {}
    if teacher.network is not None:
        more = specialists_figures(teacher.network, evaluation.logits, setting.dataset, setting.device)
    return replace(evaluation.measured, artifact=teacher.name, members=members or None, **more), evaluation.logits


def _judged(teacher: Teacher, setting: Setting) -> Evaluation:
    test, classes = setting.dataset.test, setting.dataset.classes
    if teacher.network is not None and test.labelled:
        return judge(teacher.network, teacher.identity, setting)

    def figures() -> Evaluation:
        said = teacher.predict(test, setting.device)
        if teacher.network is not None:
            return evaluate(teacher.network, labelled_by(said, test), classes, setting.device, latency=setting.latency)
        return judge_answers(said, labelled_by(said, test), classes, labels=teacher.labels)

    return setting.session.once(["answers", teacher.identity, setting.dataset.fingerprint], figures)
