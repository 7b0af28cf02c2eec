"""`kd distill`, and every job of `kd sweep`: teacher, soft targets, student and baseline, compared."""

from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from kd_cli.commands.begin import accept, begin, in_sweep
from kd_cli.commands.judge import judge, judge_teacher
from kd_cli.data.samples import Split
from kd_cli.errors import under
from kd_cli.measure.figures import Figures
from kd_cli.measure.gap import gap_recovered
from kd_cli.progress import log
from kd_cli.report.run import show_run
from kd_cli.runs.session import Session
from kd_cli.steps.bias_correction import check_correction, obtain_corrected
from kd_cli.steps.plan import plan_of
from kd_cli.steps.population import peers_of, train_together
from kd_cli.steps.student import Pair, begins_as, train_accuracy, untrained
from kd_cli.steps.targets import asked_online, obtain_targets, room
from kd_cli.steps.teacher import check_answers, few_of, obtain_teacher, prepare
from kd_cli.steps.trained_model import TrainedModel
from kd_cli.steps.transfer import TransferSet, transfer_set
from kd_cli.store.step import name_of, obtain


def main(cfg: DictConfig, session: Session) -> None:
    """Train what the store does not hold, and compare the models on the test split."""
    plan = plan_of(cfg)
    assert plan.transfer is not None
    assert plan.targets is not None
    assert plan.student is not None
    setting = begin(plan, session)
    dataset, run, recipe = setting.dataset, setting.run, plan.student.recipe.built
    network = untrained(plan.student, dataset)
    with under("student"):
        recipe.check(network, dataset.validation)
    asked = prepare(plan.teacher, setting)
    transfer = transfer_set(plan.transfer, dataset, plan.teacher.online, session)
    check_answers(plan.teacher, asked, transfer, plan.student.objective.built)
    pair = Pair(plan.student, transfer, setting)
    pair.check()
    check_correction(plan.student.bias_correction, dataset, network, transfer.named)
    pair.try_out(network)
    if not plan.teacher.online:
        room(plan.targets, transfer, setting, few_of(asked))
    accept(cfg, plan, setting)

    teacher = obtain_teacher(plan.teacher, asked, setting)
    if plan.teacher.online:
        taught = asked_online(plan.targets, teacher, recipe.batch_size, setting)
    else:
        taught = obtain_targets(plan.targets, teacher, transfer, setting)
    student = pair.student(taught, network)
    peers = [] if any(few_of(asked)) else peers_of(plan, transfer, setting)  # few classes serve one temperature
    if begins_as(run.root / (teacher.name or ""), student.identity):
        log.info("the teacher was a student of this network and seed, and began from the same weights: change seed")
    train_together("students", [student, *(peer.student(taught) for peer in peers)], setting)
    models: dict[str, TrainedModel] = {"student": _obtained(student)}
    corrected = None
    if plan.student.bias_correction is not None:
        corrected = obtain_corrected(plan.student.bias_correction, student, network, transfer.named, setting)
    if plan.student.baseline:
        baseline = pair.baseline()
        train_together("baselines", [baseline, *(peer.baseline() for peer in peers)], setting)
        models["baseline"] = _obtained(baseline)

    log.info("evaluating on the %d test %s", len(dataset.test), dataset.spec.noun)
    figures: dict[str, Figures] = {}
    logits, untold = None, teacher.untold(dataset.test)
    if untold:
        log.info("the teacher is not judged: %s", untold)
    else:
        figures["teacher"], logits = judge_teacher(teacher, setting)
    for role, step in models.items():
        artifact = name_of(step)
        its = judge(step.network, artifact, setting, logits if role == "student" else None).measured
        if teacher.labels:
            its = replace(its, kl_to_teacher=None)  # it tells no distribution
        figures[role] = replace(its, artifact=artifact, train_accuracy=train_accuracy(run.root / artifact, recipe))
    if corrected is not None:
        model, artifact, about = corrected
        figures["corrected"] = replace(judge(model, artifact, setting, logits).measured, artifact=artifact, **about)
    found = {
        "named_classes": [dataset.classes[k] for k in transfer.named],
        "note": _note(transfer, dataset.test) if plan.student.baseline or not dataset.test.labelled else None,
        "environment": setting.circumstances.environment(run.precision["student"]) | transfer.environment,
    }
    show_run(run.finish(**figures, **recovered(figures, untold), **found), in_sweep())


def _obtained(step: TrainedModel) -> TrainedModel:
    """The step, its network trained or filled, and ready to be asked."""
    obtain(step, step.setting.store, step.setting.run)
    step.network.to(step.setting.device).eval()
    return step


def _note(transfer: TransferSet, test: Split) -> str | None:
    """What is to be known of a baseline that learnt from other labels than the student's samples have, and of errors
    that are counted without any.
    """
    if not test.labelled:
        return "The test samples have no labels: errors are those about which a model and the teacher disagree."
    labelled, samples, noun = transfer.split.labelled, len(transfer.split), transfer.split.samples.spec.noun
    if not labelled:
        return "The transfer set has no labels: the baseline was trained on the training split."
    if labelled < samples:
        return f"The baseline learnt from the {labelled:,} labels of the transfer set's {samples:,} {noun}."
    return None


def recovered(figures: dict[str, Figures], untold: str = "") -> dict[str, Any]:
    """Return `gap_recovered`, and where it is None the reason; `untold` says why the teacher was not judged."""
    if "baseline" not in figures:
        return {"gap_recovered": None, "gap_reason": "no baseline was trained"}
    if "teacher" not in figures:
        return {"gap_recovered": None, "gap_reason": untold}
    teacher, student, baseline = (figures[role].errors for role in ("teacher", "student", "baseline"))
    gap = gap_recovered([teacher], [student], [baseline])
    return {
        "gap_recovered": gap,
        "gap_reason": None if gap is not None else "the teacher is not better than the baseline",
    }
