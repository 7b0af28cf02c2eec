"""A real service of digits on this machine, which may fail one request in five, and counts what it was asked."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

WEIGHTS = np.random.default_rng(0).normal(size=(64, 10)) / 4
TOO_LONG = 0.8  # seconds: more than the tests have patience for
FEW = ("transfer.fraction=0.05",)  # 60 samples
Fault = Callable[[], Response]


def logits(image: Any) -> list[float]:
    return (np.asarray(image, dtype=float).reshape(-1) @ WEIGHTS).tolist()


def late() -> Response:
    time.sleep(TOO_LONG)
    return Response("{}")


FAULTS: dict[str, Fault] = {
    "500": lambda: Response("out of order", 500),
    "429": lambda: Response("slow down", 429, headers={"Retry-After": "0.05"}),
    "too late": late,
    "a cut body": lambda: Response(b'{"logits": [', headers={"Content-Length": "400"}, direct_passthrough=True),
    "a wrong length": lambda: Response(json.dumps({"logits": [1, 2, 3]})),
}


class Service:
    """`asked` counts every request, `answered` the samples that got an answer, `headers` are the last request's."""

    def __init__(self, server: HTTPServer, faults: dict[str, Fault], slow: float) -> None:
        self.url = server.url_for("/predict")
        self.asked, self.answered, self.headers = 0, Counter[str](), dict[str, str]()
        self.faults, self.slow, self._lock = list(faults.values()), slow, threading.Lock()
        server.expect_request("/predict").respond_with_handler(self._respond)

    def _respond(self, request: Request) -> Response:
        with self._lock:
            self.asked += 1
            number, self.headers = self.asked, dict(request.headers)
        if self.faults and number % 5 == 0:
            return self.faults[number // 5 % len(self.faults)]()
        time.sleep(self.slow)
        image = request.get_json()["input"]
        with self._lock:
            self.answered[json.dumps(image)] += 1
        return Response(json.dumps({"logits": logits(image)}))

    @property
    def words(self) -> tuple[str, ...]:
        return ("teacher=http", f"teacher.url={self.url}", "teacher.answer=logits", *FEW)


@contextmanager
def serving(faults: dict[str, Fault] | None = None, slow: float = 0.0) -> Iterator[Service]:
    with HTTPServer(threaded=True) as server:
        yield Service(server, faults or {}, slow)


@contextmanager
def responding(handler: Callable[[Request], Response], path: str = "/predict") -> Iterator[HTTPServer]:
    with HTTPServer(threaded=True) as server:
        server.expect_request(path).respond_with_handler(handler)
        yield server
