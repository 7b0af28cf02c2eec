"""`kd list`: what the store holds and who uses it."""

import csv
from pathlib import Path

from listed import listed
from running import Outcome, files_below, inside


def test_every_artifact_is_listed_with_what_it_is_and_who_uses_it(made: Outcome, here: Path) -> None:
    result, rows = made.result, listed(here)
    run = f"runs/{made.run.name}"
    teacher, student, baseline = (result[role]["artifact"] for role in ("teacher", "student", "baseline"))
    targets = result["stages"]["soft_targets"]["artifact"]
    assert set(rows) == {teacher, student, baseline, targets}
    assert {row["state"] for row in rows.values()} == {"complete"}
    assert {name: set(row["users"]) for name, row in rows.items()} == {
        teacher: {run, targets},
        targets: {run, student},
        student: {run},
        baseline: {run},
    }
    assert rows[teacher]["title"] == "cnn, 10 classes, cross-entropy"
    assert rows[student]["title"] == "mlp, 10 classes, Hinton"
    assert rows[baseline]["title"] == "mlp, 10 classes, cross-entropy"
    assert rows[targets]["title"] == "1,198 samples × 1 views × 10 classes"
    for name, row in rows.items():
        assert row["bytes"] == sum(path.stat().st_size for path in (here / "outputs" / name).iterdir())


def test_what_a_link_leads_to_takes_no_room(made: Outcome, here: Path) -> None:
    name, before = made.result["student"]["artifact"], listed(here)
    (here / "large").write_bytes(bytes(100_000))
    (here / "outputs" / name / "link").symlink_to(here / "large")
    assert listed(here)[name]["bytes"] == before[name]["bytes"]


def test_the_same_as_csv_and_as_a_table(here: Path) -> None:
    rows = list(csv.DictReader(inside("list", "format=csv", cwd=here).out.splitlines()))
    assert {row["artifact"]: row["users"].split() for row in rows} == {
        name: row["users"] for name, row in listed(here).items()
    }
    table = inside("list", cwd=here)
    assert table.err == ""
    assert "4 artifacts in outputs" in table.out
    assert "used by" in table.out


def test_an_empty_store_is_an_answer_and_stays_empty(tmp_path: Path) -> None:
    assert inside("list", "format=json", cwd=tmp_path).out == "[]\n"
    assert inside("clean", "yes=true", cwd=tmp_path).status == 0
    assert files_below(tmp_path) == []
