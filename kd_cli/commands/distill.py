"""Stage 3 and 4: the student and its baseline, trained alike, and all three models evaluated on the test split."""

from typing import Any

from omegaconf import DictConfig

from kd_cli.build.objects import owner
from kd_cli.errors import must
from kd_cli.measure.evaluation import Evaluation
from kd_cli.measure.gap import gap_recovered
from kd_cli.progress import log
from kd_cli.report.run import ROLES
from kd_cli.runs.run import Run
from kd_cli.steps.bias_correction import check_correction, obtain_corrected
from kd_cli.steps.population import peers_of, train_together
from kd_cli.steps.recipes import check_recipes
from kd_cli.steps.specialists import specialists_figures
from kd_cli.steps.student import Builder, begins_as, obtain_student, train_accuracy
from kd_cli.steps.targets import obtain_targets, room
from kd_cli.steps.teacher import obtain, of_members, prepare
from kd_cli.steps.transfer import transfer_set


def main(cfg: DictConfig) -> None:
    """`kd distill`, and every job of `kd sweep`."""
    check_recipes(cfg)
    run = Run(cfg)
    dataset = run.dataset
    build = Builder(cfg, dataset)
    with owner("student"):
        student = build.model()
        build.recipe.check(student, dataset.validation)
    source, teacher_network = prepare(run)
    transfer = transfer_set(cfg.transfer, dataset, source.online)
    build.check(transfer)
    check_correction(run, student, transfer.named)
    build.try_out(run, student, transfer)
    if not source.online:
        room(run, transfer)
    elif cfg.targets.top_k is not None:
        raise must("targets.top_k", "null with teacher.online=true, which stores no targets", cfg.targets.top_k)
    run.accept()

    teacher = obtain(run, source, teacher_network)
    targets, targets_identity = obtain_targets(run, teacher, transfer)
    builders = [build, *peers_of(run, transfer)]
    plans = [builder.student(run, transfer, targets, targets_identity) for builder in builders]
    if begins_as(run.root / (teacher.name or ""), plans[0].identity):
        log.info("the teacher was a student of this network and seed, and began from the same weights: change seed")
    train_together(run, "students", plans)
    names: dict[str, Any] = {"teacher": teacher.name, "student": obtain_student(run, "student", student, plans[0])}
    models = {"teacher": teacher.network, "student": student}
    about: dict[str, Any] = {role: {} for role in ROLES}
    if cfg.bias_correction is not None:
        corrected = obtain_corrected(run, student, plans[0], transfer.named)
        models["corrected"], names["corrected"], about["corrected"] = corrected
    note = None
    if cfg.baseline:
        split = transfer.split
        if not split.labelled:
            note = "The transfer set has no labels: the baseline was trained on the training split."
        elif split.labelled < len(split):
            note = (
                f"The baseline learnt from the {split.labelled:,} labels of the transfer set's {len(split):,} "
                f"{dataset.spec.noun}."
            )
        baseline = build.model("baseline")
        plans = [builder.baseline(run, transfer) for builder in builders]
        train_together(run, "baselines", plans)
        names["baseline"] = obtain_student(run, "baseline", baseline, plans[0])
        models["baseline"] = baseline

    log.info("evaluating on the %d test %s", len(dataset.test), dataset.spec.noun)
    result: dict[str, Any] = {}
    reference: Evaluation | None = None
    for role, model in models.items():
        determined_by = teacher.identity if role == "teacher" else names[role]
        evaluation = run.evaluate(model, determined_by, reference if role in ("student", "corrected") else None)
        result[role] = {**evaluation.figures, "artifact": names[role], **about[role]}
        if role == "teacher":
            reference = evaluation
            result[role] |= of_members(run, teacher) | specialists_figures(run, model, evaluation.logits)
        if role in ("student", "baseline"):
            result[role]["train_accuracy"] = train_accuracy(run.root / names[role], build.recipe)
    result |= recovered(result)
    if transfer.named:
        result["named_classes"] = [dataset.classes[k] for k in transfer.named]
    run.finish(result | {"note": note, "environment": run.environment(run.precision["student"]) | transfer.environment})


def recovered(result: dict[str, Any]) -> dict[str, Any]:
    """`gap_recovered`, and where it is null the reason."""
    if "baseline" not in result:
        return {"gap_recovered": None, "gap_reason": "no baseline was trained"}
    teacher, student, baseline = (result[role]["errors"] for role in ("teacher", "student", "baseline"))
    gap = gap_recovered([teacher], [student], [baseline])
    return {
        "gap_recovered": gap,
        "gap_reason": None if gap is not None else "the teacher is not better than the baseline",
    }
