"""A teacher that is a service: asked over HTTP once for each sample, what it tells is written down as it comes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kd_cli.data.samples import Dataset
from kd_cli.errors import DataError, must
from kd_cli.files.plain_file import read_plain
from kd_cli.ranges import number, whole_number
from kd_cli.teachers.named import class_order
from kd_cli.teachers.service.asking import Asker, Limits, secret_of
from kd_cli.teachers.service.inquiry import Inquiry
from kd_cli.teachers.service.protocols import NUMBERS, PROTOCOLS, Protocol
from kd_cli.teachers.source import Answered
from kd_cli.teachers.teacher import Answering
from kd_cli.teachers.told import OUTPUTS

NEAR = ("localhost", "127.0.0.1", "::1")
SECRETS = ("key", "token", "secret", "password", "sig", "auth", "credential")
LARGEST_TEMPLATE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Http(Answered):
    """`url` is asked by one of `PROTOCOLS`; `request` is a template, or the name of a JSON file of one. `token` is the
    name of an environment variable.
    """

    url: str
    protocol: str = "json"
    request: Any = None
    answer: str | None = None
    name: str | None = None
    revision: str | None = None
    input: str = "input"
    datatype: str = "FP32"
    classes: Sequence[str] | None = None
    gives: str | None = None
    token: str | None = None
    header: str = "Authorization"
    tls: bool = True
    concurrency: int = 4
    timeout: float = 60.0
    attempts: int = 5
    per_second: float | None = None
    max_requests: int | None = None
    evaluate: bool = True
    allow_missing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, known in (("protocol", PROTOCOLS), ("datatype", tuple(NUMBERS)), ("gives", (*OUTPUTS, None))):
            if getattr(self, key) not in known:
                raise must(f".{key}", f"one of {', '.join(map(str, known))}", getattr(self, key))
        for key in ("evaluate", "tls"):
            if not isinstance(getattr(self, key), bool):
                raise must(f".{key}", "true or false", getattr(self, key))
        whole_number(".concurrency", self.concurrency, 1, 256)
        whole_number(".attempts", self.attempts, 1, 100)
        whole_number(".max_requests", self.max_requests, 1, null=True)
        number(".timeout", self.timeout, above=0)
        number(".per_second", self.per_second, above=0, null=True)
        number(".allow_missing", self.allow_missing, at_least=0, at_most=1)
        if self.protocol == "chat" and not self.name:
            raise must(".name", "the name of a model with protocol=chat", self.name)
        _expect_address(self.url, self.tls)

    def open(self, dataset: Dataset, root: Path) -> Answering:
        """Return what it has told, and the means to ask for the rest; the samples of the probe are asked now."""
        secret = secret_of(self.token)
        words = (
            {} if secret is None else {self.header: f"Bearer {secret}" if self.header == "Authorization" else secret}
        )
        theirs = class_order(self.classes, dataset)
        name, revision = (None if word is None else str(word) for word in (self.name, self.revision))
        protocol = Protocol(
            self.protocol, theirs, _template(self.request), self.answer, name, revision, self.input, self.datatype
        )
        limits = Limits(self.attempts, self.timeout, self.max_requests, self.per_second)
        url = protocol.url(self.url)
        asker = Asker(url, words, limits, secret, near=urlsplit(url).hostname in NEAR)
        inquiry = Inquiry(self, protocol, url, asker, dataset, root)
        inquiry.probe()
        return inquiry


def _expect_address(url: Any, tls: bool) -> None:
    """Refuse what is no address, what would be sent in the clear, and what holds a secret, which is not repeated."""
    try:
        parts = urlsplit(url)
        host, queried = parts.hostname, [name for name, _ in parse_qsl(parts.query)]
    except (ValueError, AttributeError, TypeError):
        parts, host, queried = urlsplit(""), None, []
    if parts.scheme not in ("http", "https") or not host:
        raise must(".url", "an address such as https://host/path", url)
    if parts.username or parts.password or any(word in name.lower() for name in queried for word in SECRETS):
        hint = "It would stand in every file of the run. Put the token into an environment variable: {}=<its name>."
        raise must(".url", "an address without a password or token", f"{parts.scheme}://…@{host}/…", hint, ".token")
    if tls and parts.scheme == "http" and host not in NEAR:
        hint = "Samples and token would be sent in the clear. If that is meant: {}=false."
        raise must(".url", "an address of https://", url, hint, ".tls")


def _template(request: Any) -> Any:
    """A template, read from its file where it is the name of one."""
    if not isinstance(request, str) or not request.endswith(".json"):
        return request
    try:
        return json.loads(read_plain(Path(request), LARGEST_TEMPLATE))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError.must(".request", "a template, or a JSON file of one", request, f"{error}.") from error
