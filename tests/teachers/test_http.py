"""A service as a teacher: asked once for each sample, whatever fails and whoever asks."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from answers import data, pixels
from running import KD, Outcome, environment, inside
from safetensors.torch import load_file
from serving import FAULTS, Service, logits, serving
from torch import Tensor
from werkzeug import Response

SHORT = ("student.train.epochs=2", "baseline=false")
IMPATIENT = ("teacher.timeout=0.4", "teacher.attempts=9", "teacher.concurrency=8")


def stored(folder: Path) -> tuple[bytes, Tensor]:
    (shard,) = (folder / "outputs/soft_targets").glob("*/logits-00000.safetensors")
    return shard.read_bytes(), load_file(shard)["logits"]


def dump(service: Service, folder: Path, *words: str) -> Outcome:
    folder.mkdir(exist_ok=True)
    return inside("dump-targets", *service.words, *words, cwd=folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    """What is stored of a service that never fails."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with serving() as service:
        assert dump(service, folder).status == 0
    return stored(folder)[1]


def test_a_service_that_fails_one_request_in_five_gives_the_same_and_each_sample_is_paid_once(
    undisturbed: Tensor, tmp_path: Path
) -> None:
    with serving(FAULTS) as service:
        done = dump(service, tmp_path, *IMPATIENT)
        assert done.status == 0, done.err
        assert torch.equal(stored(tmp_path)[1], undisturbed)
        assert max(service.answered.values()) == 1
        assert service.asked > len(service.answered) * 1.2


def test_a_run_asks_no_sample_twice_and_again_none_at_all(tmp_path: Path) -> None:
    with serving() as service:
        result = inside("distill", *service.words, *SHORT, cwd=tmp_path).result
        assert max(service.answered.values()) == 1
        asked = service.asked
        assert asked == len(service.answered) <= 60 + 599 + 8  # transfer set, test split, probe
        assert result["teacher"]["errors"] == sum(
            int(torch.tensor(logits(image / 255)).argmax() != label)
            for image, label in zip(pixels(data().test), data().test.labels, strict=True)
        )
        assert result["teacher"]["latency_ms"] is None
        again = inside("distill", *service.words, *SHORT, "temperature=2", cwd=tmp_path)
        assert "soft targets: found in" in again.err
        assert service.asked == asked


def test_the_test_split_is_spared_where_that_is_said(tmp_path: Path) -> None:
    with serving() as service:
        result = inside("distill", *service.words, *SHORT, "teacher.evaluate=false", cwd=tmp_path).result
        assert service.asked <= 60 + 8
    assert result["teacher"] is None


def test_the_tokens_value_stands_in_no_file_and_reaches_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cr3t-t0ken")
    refusing = {"echo": lambda: Response("what is s3cr3t-t0ken?", 500)}
    with serving(refusing) as service:
        words = ("teacher.token=MY_TOKEN", "teacher.attempts=1", "teacher.evaluate=false")
        first = inside("distill", *service.words, *SHORT, *words, cwd=tmp_path)
        assert service.headers["Authorization"] == "Bearer s3cr3t-t0ken"
        assert first.status == 1
        assert "***" in first.err
        for _ in range(9):
            last = inside("distill", *service.words, *SHORT, *words, cwd=tmp_path)
            if last.status == 0:
                break
        assert last.status == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if b"s3cr3t-t0ken" in path.read_bytes()]
    assert "s3cr3t-t0ken" not in first.err + last.err


def started(service: Service, folder: Path, *words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [str(KD), "dump-targets", *service.words, *words], cwd=folder, env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def test_a_killed_dump_goes_on_with_what_is_missing(undisturbed: Tensor, tmp_path: Path) -> None:
    with serving(slow=0.05) as service:
        process = started(service, tmp_path, "teacher.concurrency=2")
        while len(service.answered) < 25 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.2)  # what was under way is answered, and nobody hears it
        before = service.answered.copy()
        assert 25 <= len(before) < 60
        (book,) = (tmp_path / "outputs/answers").glob("*.jsonl")
        heard = len(book.read_text().splitlines())
        with book.open("a") as file:
            file.write('{"key":"torn')
        done = dump(service, tmp_path)
        assert done.status == 0, done.err
        twice = [image for image, times in service.answered.items() if times > 1]
        assert len(twice) == len(before) - heard <= 2  # those under way when it was killed
        assert set(twice) <= set(before)
    assert torch.equal(stored(tmp_path)[1], undisturbed)


def test_three_shells_at_once_ask_each_sample_once(tmp_path: Path) -> None:
    with serving(slow=0.02) as service:
        shells = [started(service, tmp_path, f"targets.dtype={dtype}") for dtype in ("float16", "float16", "float32")]
        assert [shell.wait() for shell in shells] == [0, 0, 0]
        assert set(service.answered.values()) == {1}
        assert service.asked == len(service.answered)
    assert len(list((tmp_path / "outputs/soft_targets").glob("*/manifest.json"))) == 2


def test_failing_samples_are_listed_kept_apart_and_may_go_on_without_an_answer(tmp_path: Path) -> None:
    bad = [logits(image / 255)[0] for image in pixels(data().transfer)[:40]]

    class Partial(Service):
        def _respond(self, request):  # some pictures are refused for good
            image = request.get_json()["input"]
            if logits(image)[0] in refused:
                self.asked += 1
                return Response("no such picture", 422)
            return super()._respond(request)

    from pytest_httpserver import HTTPServer

    refused = set(bad) - {logits(image / 255)[0] for image in pixels(data().transfer)[:1]}  # the probe's
    with HTTPServer(threaded=True) as server:
        service = Partial(server, {}, 0.0)
        failed = dump(service, tmp_path)
        assert failed.status == 1
        assert "gave no answer for" in failed.err
        assert "status 422: no such picture" in failed.err
        assert "The same command asks for the rest alone" in failed.err
        asked, answered = service.asked, len(service.answered)
        done = inside("distill", *service.words, *SHORT, "teacher.allow_missing=0.2", "teacher.evaluate=false",
                      cwd=tmp_path)  # fmt: skip
        lacking = asked - answered
        assert done.status == 0, done.err
        assert len(service.answered) == answered
        assert service.asked == asked + lacking
    artifact = tmp_path / "outputs" / done.result["stages"]["soft_targets"]["artifact"]
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert manifest["untold"] == lacking
    assert int(stored(tmp_path)[1].isnan().all(1).sum()) == lacking


def test_the_most_requests_are_not_passed_and_the_next_run_goes_on(tmp_path: Path) -> None:
    with serving() as service:
        stopped = dump(service, tmp_path, "teacher.max_requests=30")
        assert stopped.status == 1
        assert "teacher.max_requests=30 are made" in stopped.err
        assert service.asked == 30
        assert dump(service, tmp_path, "teacher.max_requests=40").status == 0
        assert set(service.answered.values()) == {1}


def test_ctrl_c_keeps_what_was_paid(tmp_path: Path) -> None:
    with serving(slow=0.05) as service:
        process = started(service, tmp_path)
        while len(service.answered) < 12 and process.poll() is None:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGINT)
        process.wait()
        (book,) = (tmp_path / "outputs/answers").glob("*.jsonl")
        assert len(book.read_text().splitlines()) == len(service.answered) < 60
