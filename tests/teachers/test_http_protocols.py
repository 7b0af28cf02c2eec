"""How a service is asked: templates, KServe, chats; and what it may not do."""

import base64
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytest_httpserver import HTTPServer
from running import Outcome, inside
from safetensors.torch import load_file
from serving import FEW, logits, responding, serving
from werkzeug import Request, Response

from kd_cli.teachers.service.protocols import at, choice_of

CLASSES = ("negative", "neutral", "positive")


def asked(server: HTTPServer, folder: Path, *words: str, path: str = "/predict") -> Outcome:
    url = f"teacher.url={server.url_for(path)}"
    return inside("dump-targets", "teacher=http", url, "teacher.attempts=1", *FEW, *words, cwd=folder)


def logits_in(folder: Path) -> torch.Tensor:
    (shard,) = (folder / "outputs/soft_targets").glob("*/logits-00000.safetensors")
    return load_file(shard)["logits"].float()


def test_a_template_sends_a_picture_and_a_path_leads_to_the_scores(tmp_path: Path) -> None:
    def handler(request: Request) -> Response:
        sent = request.get_json()
        assert sent["options"] == {"top": 10, "model": "m-1"}
        image = Image.open(io.BytesIO(base64.b64decode(sent["image"].removeprefix("data:image/png;base64,"))))
        z = torch.tensor(logits(np.asarray(image) / 255))
        scores = [{"label": str(k), "score": float(p)} for k, p in enumerate(z.softmax(0))]
        return Response(json.dumps({"result": [{"scores": scores}]}))

    (tmp_path / "request.json").write_text(
        json.dumps({"image": "data:image/png;base64,{png}", "options": {"top": 10, "model": "{model}"}})
    )
    with responding(handler) as server:
        words = ("teacher.request=request.json", "teacher.answer=result.0.scores", "teacher.name=m-1")
        done = asked(server, tmp_path, *words)
        assert done.status == 0, done.err
    with serving() as service:
        (tmp_path / "plain").mkdir()
        assert inside("dump-targets", *service.words, cwd=tmp_path / "plain").status == 0
    theirs, ours = logits_in(tmp_path), logits_in(tmp_path / "plain")
    torch.testing.assert_close(theirs.softmax(1), ours.softmax(1), atol=2e-3, rtol=2e-2)


@pytest.mark.parametrize(("datatype", "scale"), [("FP32", 1), ("UINT8", 255)])
def test_kserve_is_asked_as_triton_is(datatype: str, scale: int, tmp_path: Path) -> None:
    def handler(request: Request) -> Response:
        (tensor,) = request.get_json()["inputs"]
        assert (tensor["name"], tensor["shape"], tensor["datatype"]) == ("images", [1, 1, 8, 8], datatype)
        told = {
            "name": "logits",
            "shape": [1, 10],
            "datatype": "FP32",
            "data": logits(np.array(tensor["data"]) / scale),
        }
        return Response(json.dumps({"model_name": "digits", "outputs": [told]}))

    with responding(handler, "/v2/models/digits/versions/3/infer") as server:
        words = ("teacher.protocol=kserve", "teacher.name=digits", "teacher.revision=3", "teacher.input=images")
        done = asked(server, tmp_path, *words, f"teacher.datatype={datatype}", path="")
        assert done.status == 0, done.err
    assert logits_in(tmp_path).shape == (60, 10)


def test_a_chat_is_asked_for_the_classes_names_with_log_probabilities(tmp_path: Path) -> None:
    def handler(request: Request) -> Response:
        sent = request.get_json()
        assert (sent["model"], sent["logprobs"], sent["max_tokens"]) == ("gpt-x", True, 1)
        question, picture = sent["messages"][0]["content"]
        assert "0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in question["text"]
        content = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
        z = torch.tensor(logits(np.asarray(Image.open(io.BytesIO(content))) / 255)).log_softmax(0)
        top = [{"token": f" {k}", "logprob": float(v) - 0.1} for k, v in enumerate(z)] + [
            {"token": "It", "logprob": -3}
        ]
        choice = {"message": {"content": " 1"}, "logprobs": {"content": [{"top_logprobs": top}]}}
        return Response(json.dumps({"choices": [choice]}))

    with responding(handler, "/v1/chat/completions") as server:
        words = ("teacher.protocol=chat", "teacher.name=gpt-x")
        done = asked(server, tmp_path, *words, path="/v1/chat/completions")
        assert done.status == 0, done.err
    assert logits_in(tmp_path).isfinite().all()


def tokens(*pairs: tuple[str, float]) -> dict[str, Any]:
    top = [{"token": token, "logprob": value} for token, value in pairs]
    return {"message": {"content": "x"}, "logprobs": {"content": [{"top_logprobs": top}]}}


def test_a_chats_tokens_are_taken_for_the_classes_that_they_are_or_begin() -> None:
    told = choice_of(tokens((" Positive", -0.5), ("pos", -3.0), ("ne", -1.0), ("neg", -2.0), ("zzz", -9.0)), CLASSES)
    assert isinstance(told, dict)
    assert told[2] == pytest.approx(np.logaddexp(-0.5, -3.0))
    assert told[0] == -2.0  # `ne` may begin two classes
    assert told[1] == -9.0  # at most as probable as the least that was told
    assert choice_of({"message": {"content": "Neutral."}}, CLASSES) == 1
    with pytest.raises(ValueError, match="none of its tokens"):
        choice_of(tokens(("zzz", -1.0)), CLASSES)
    with pytest.raises(ValueError, match="is no class"):
        choice_of({"message": {"content": "I cannot say"}}, CLASSES)


def test_a_path_that_leads_nowhere_says_what_there_is() -> None:
    content = {"outputs": [{"data": [1]}]}
    assert at(content, "outputs[0].data") == at(content, "outputs.0.data") == [1]
    with pytest.raises(ValueError, match=r"has no 'outputs.1.data' \(there is: 1 in a list\)"):
        at(content, "outputs.1.data")
    with pytest.raises(ValueError, match=r"has no 'out' \(there is: outputs\)"):
        at(content, "out")


def test_a_redirect_to_another_host_is_refused_and_one_on_the_same_followed(tmp_path: Path) -> None:
    with serving() as service, responding(lambda _: Response("", 307, headers={"Location": service.url})) as server:
        refused = asked(server, tmp_path, "teacher.answer=logits")
        assert refused.status == 1
        assert "it redirects to another host, localhost, which is not followed" in refused.err
        assert service.asked == 0

    with HTTPServer() as server:
        server.expect_request("/old").respond_with_response(Response("", 307, headers={"Location": "/new"}))
        server.expect_request("/new").respond_with_json({"logits": [float(k) for k in range(10)]})
        assert asked(server, tmp_path, "teacher.answer=logits", path="/old").status == 0


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (lambda: Response("who are you?", 401), "status 401: who are you?"),
        (lambda: Response("x" * 20_000_000), "an answer of more than 16 MB"),
        (lambda: Response("{", 200), "an answer that cannot be used"),
        (lambda: Response('{"logits": [1, 2]}', 200), "2 numbers for 10 classes"),
        (lambda: Response('{"scores": [1, 2]}', 200), "the answer has no 'logits' (there is: scores)"),
        (lambda: Response("", 429, headers={"Retry-After": "7200"}), "it asks to wait for 7200 s"),
        (lambda: Response("", 302, headers={"Location": "/login"}), "it redirects (302) to /login: give that address"),
    ],
)
def test_what_a_service_may_not_do_is_told(response: Any, said: str, tmp_path: Path) -> None:
    with responding(lambda _: response()) as server:
        refused = asked(server, tmp_path, "teacher.answer=logits")
    assert refused.status == 1
    assert said in refused.err
    assert not list(tmp_path.glob("outputs/soft_targets/*"))


def test_when_to_come_again_may_be_said_as_a_date(tmp_path: Path) -> None:
    times: list[float] = []

    def handler(request: Request) -> Response:
        times.append(time.time())
        if len(times) == 1:
            date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
            return Response("", 503, headers={"Retry-After": date})
        return Response(json.dumps(logits(request.get_json()["input"])))

    with responding(handler) as server:
        words = ("teacher.attempts=2", "transfer.fraction=0.02")
        assert asked(server, tmp_path, *words).status == 0
    assert times[1] - times[0] >= 0.9  # the date is cut to whole seconds


def test_no_more_requests_are_made_in_a_second_than_is_allowed(tmp_path: Path) -> None:
    times: list[float] = []

    def handler(request: Request) -> Response:
        times.append(time.monotonic())
        return Response(json.dumps(logits(request.get_json()["input"])))

    with responding(handler) as server:
        assert asked(server, tmp_path, "teacher.per_second=50", "transfer.fraction=0.02").status == 0
    assert len(times) >= 20
    assert times[-1] - times[0] > 0.9 * (len(times) - 1) / 50


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("teacher.url=here",), "teacher.url must be an address such as https://host/path, got 'here'."),
        (("teacher.url=http://far.example/x",), "teacher.url must be an address of https://"),
        (
            ("teacher.url=https://me:pw1234@far.example/x",),
            "teacher.url must be an address without a password or token",
        ),
        (("teacher.url='https://far.example/x?api_key=pw1234'",), "Put the token into an environment variable"),
        (("teacher.url=http://localhost:9/x", "teacher.protocol=soap"), "teacher.protocol must be one of json, kserve"),
        (("teacher.url=http://localhost:9/x", "teacher.protocol=chat"), "teacher.name must be the name of a model"),
        (("teacher.url=http://localhost:9/x", "teacher.token=NO_SUCH"), "the environment variable NO_SUCH is not set"),
        (("teacher.url=http://localhost:9/x", "teacher.request={a:b}"), "teacher.request must be a template with the"),
        (("teacher.url=http://localhost:9/x", "teacher.request={a:'{who}'}"), "got '{who}'"),
        (("teacher.url=http://localhost:9/x", "teacher.request=no.json"), "teacher.request must be a template, or a"),
        (("teacher.url=http://localhost:9/x", "teacher.concurrency=0"), "teacher.concurrency must be a whole number"),
        (("teacher.url=http://localhost:9/x", "teacher.online=true"), "teacher.online must be false"),
        (("teacher.url=http://localhost:9/x", "teacher.attempts=1"), "ConnectError"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_its_key(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    refused = inside("distill", "teacher=http", *words, cwd=tmp_path)
    assert refused.status == 1
    assert said in refused.err
    assert "Traceback" not in refused.err
    assert "pw1234" not in refused.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"pw1234" in path.read_bytes()]
    assert not (tmp_path / "outputs/runs").exists()


def test_services_are_members_of_an_ensemble(tmp_path: Path) -> None:
    with serving() as one, serving() as other:
        words = [f"teacher.members.{number}.{key}" for number, at in enumerate((one, other))
                 for key in (f"url={at.url}", "answer=logits", "evaluate=false")]  # fmt: skip
        short = ("student.train.epochs=2", "baseline=false")
        done = inside("distill", "teacher=ensemble", "teacher.members=[http,http]", *words, *short, *FEW, cwd=tmp_path)
        assert done.result["teacher"] is None
        assert one.asked == other.asked == len(one.answered)


def test_a_text_is_sent_as_it_is_and_a_file_by_its_name(tmp_path: Path) -> None:
    texts = [f"{'good' if k % 2 else 'bad'} film {k}" for k in range(40)]
    rows = "\n".join(f"{text},{'pos' if k % 2 else 'neg'}" for k, text in enumerate(texts))
    (tmp_path / "t.csv").write_text(f"text,label\n{rows}\n")
    seen: list[str] = []

    def handler(request: Request) -> Response:
        seen.append(request.get_json()["q"])
        return Response(json.dumps({"pos": 0.5 + 0.4 * ("good" in seen[-1]), "neg": 0.5 - 0.4 * ("good" in seen[-1])}))

    with responding(handler) as server:
        url = f"teacher.url={server.url_for('/predict')}"
        words = ("dataset=text", "dataset.root=t.csv", "dataset.text=text", "dataset.label=label", "dataset.test=0.5")
        request = "teacher.request={q:'{text}'}"
        done = inside("dump-targets", "teacher=http", url, request, *words, cwd=tmp_path)
        assert done.status == 0, done.err
    assert set(seen) < set(texts)
    assert len(seen) == len(set(seen)) == 20
