"""The figures on the test split, which is looked at once, at the end."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from kd_cli.measure.evaluation import Evaluation, evaluate
from kd_cli.measure.figures import Figures, MemberFigures
from kd_cli.steps.setting import Setting
from kd_cli.steps.specialists import specialists_figures
from kd_cli.steps.teacher import Teacher


def judge(model: nn.Module, identity: Any, setting: Setting, teacher: Tensor | None = None) -> Evaluation:
    """Evaluate a model that `identity` determines; beside its `teacher`, whose logits they are, a student."""
    dataset = setting.dataset

    def figures() -> Evaluation:
        return evaluate(model, dataset.test, dataset.classes, setting.device, teacher, setting.latency)

    if teacher is not None:
        return figures()
    return setting.session.once(["evaluation", identity, dataset.fingerprint, setting.latency], figures)


def judge_teacher(teacher: Teacher, setting: Setting) -> tuple[Figures, Tensor]:
    """Return the teacher's figures, with those of its members or of its generalist, and its logits."""
    evaluation = judge(teacher.network, teacher.identity, setting)
    members = []
    for member in teacher.members.values():
        its = judge(member.network, member.identity, setting).measured
        shared = {key: getattr(its, key) for key in ("errors", "n", "accuracy", "nll", "ece")}
        members.append(MemberFigures(**shared, artifact=member.name))
    more = specialists_figures(teacher.network, evaluation.logits, setting.dataset, setting.device)
    return replace(evaluation.measured, artifact=teacher.name, members=members or None, **more), evaluation.logits
