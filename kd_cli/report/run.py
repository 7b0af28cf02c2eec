"""What a person is told at the end of a run: one table, and one sentence that says whether distilling helped."""

from kd_cli.measure.figures import Figures
from kd_cli.progress import console, tell
from kd_cli.report.models_table import ON_TEST, covering_table, table
from kd_cli.runs.result import Result, Stage


def show_run(result: Result, in_sweep: bool) -> None:
    """Print table and sentences to standard error; in a sweep, which has a table of its own, the sentences alone."""
    if result.figures and not in_sweep:
        console.print(table(result))
        teacher = result.teacher
        if teacher is not None and teacher.covering and teacher.generalist:
            console.print(covering_table(teacher, teacher.covering, teacher.generalist.errors))
    for said in (result.note, unsettled(result.stages), sentence(result), correction(result)):
        if said:
            tell(said)


def sentence(result: Result) -> str:
    """Return how much of the gap was recovered and what the student saves, or that distilling did not help; nothing
    where there is no student.
    """
    student, teacher, baseline = result.student, result.teacher, result.baseline
    if student is None:
        return ""
    if teacher is None:
        alone = f", the same student without a teacher {baseline.errors}" if baseline is not None else ""
        said = f": {result.gap_reason}" if baseline is not None and result.gap_reason else ""
        return f"The student makes {student.errors} errors{alone}. The teacher was not judged{said}."
    size, gap = _saving(student, teacher), result.gap_recovered
    if baseline is None:
        return f"Without a baseline (baseline=false) nobody can say whether distilling helped. {size}"
    errors = (
        f"{student.errors} errors, the same student without a teacher {baseline.errors}, the teacher {teacher.errors}"
    )
    if gap is None:
        verb = "better" if student.errors < baseline.errors else "no better"
        return (
            f"There was no gap to recover: the teacher is not better than the baseline. The student makes {errors}; "
            f"it is {verb} than the baseline. {size}"
        )
    if student.errors >= baseline.errors:
        return f"Distilling did not help: the student makes {errors}. {size}"
    return f"The student recovered {gap:.0%} of the gap: it makes {errors}. {size}"


def unsettled(stages: dict[str, Stage]) -> str:
    """Return whose batch statistics were not those of training, or are not to be trusted; nothing where all had
    settled.
    """
    found = {name.replace("_", " "): stage.batch_statistics for name, stage in stages.items()}
    anew = [name for name, of in found.items() if of and of.get("used") == "recomputed"]
    kept = [name for name, of in found.items() if of and of.get("used") != "recomputed" and of.get("settled") is False]
    lines = []
    if anew:
        lines.append(f"Batch statistics were taken anew from training samples for: {', '.join(anew)}.")
    if kept:
        lines.append(
            f"Batch statistics had not settled, and the figures are worse than what was learnt, for: {', '.join(kept)}."
        )
    return " ".join(lines)


def correction(result: Result) -> str:
    """Return what another output bias changed, and whether it was chosen by looking at the test set."""
    corrected, student = result.corrected, result.student
    if corrected is None or student is None:
        return ""
    said = f"With its output bias corrected ({corrected.rule}) the student makes {corrected.errors} errors"
    peeked = f"; that bias was {ON_TEST}" if corrected.selected_on == "test" else ""
    return f"{said} instead of {student.errors}{peeked}."


def _saving(student: Figures, teacher: Figures) -> str:
    """How much smaller and faster the student is; nothing where either of them cannot be measured."""
    if not (teacher.params and student.params and teacher.latency_ms and student.latency_ms):
        return ""
    speeds = []
    for batch in ("1", "256"):
        slow, fast = teacher.latency_ms.get(batch), student.latency_ms.get(batch)
        if not slow or not fast:
            return ""
        speeds.append(f"{_times(slow / fast, 'faster', 'slower')} at batch {batch}")
    size = teacher.params / student.params
    smaller = "as large as" if size == 1 else f"{_times(size, 'smaller', 'larger')} than"
    return f"It is {smaller} the teacher, {' and '.join(speeds)}."


def _times(ratio: float, more: str, less: str) -> str:
    word, ratio = (more, ratio) if ratio >= 1 else (less, 1 / ratio)
    return f"{ratio:,.0f} × {word}" if ratio >= 100 else f"{ratio:.2g} × {word}"
