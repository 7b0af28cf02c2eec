"""How a service is asked: over TLS, with patience and within limits, and no more than it allows."""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Event, Lock
from typing import Any

from kd_cli.errors import ForeignError, first_line
from kd_cli.extras import library
from kd_cli.screen import shown

LARGEST = 1 << 24  # bytes of an answer
REDIRECTS = 3
LONGEST_WAIT = 600.0  # seconds that a service may ask to wait
AGAIN = (408, 425, 429, 500, 502, 503, 504)  # states that pass
FOR_ALL = (401, 402, 403, 404, 405, 407, 410)  # what no sample can be blamed for
BACKOFF, MOST_BACKOFF = 0.25, 10.0  # seconds before the first repetition, and the most before one; and chance
AT_ONCE = 1e-3
NAME_OF_KD = "kd-distill"


class Unanswered(Exception):
    """A request that may be answered when it is made again; `waited` where the service said when."""

    def __init__(self, why: str, waited: bool = False) -> None:
        super().__init__(why)
        self.waited = waited


class Refused(Exception):
    """A request that will not be answered however often it is made."""


class Stop(Exception):
    """No further request is to be made."""


@dataclass(frozen=True)
class Limits:
    """What a person allows: attempts for a sample, seconds for one, requests of this run and in a second."""

    attempts: int
    timeout: float
    max_requests: int | None
    per_second: float | None


class Asker:
    """One service's client, for several threads at once. `sent` are the requests of this run, repeated ones too."""

    def __init__(self, url: str, headers: Mapping[str, str], limits: Limits, secret: str | None, near: bool) -> None:
        self.http: Any = library("httpx2", "http", "teacher=http")
        self.stamina: Any = library("stamina", "http", "teacher=http")
        self.stamina.instrumentation.set_on_retry_hooks(())  # it would log what was asked
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # it has a line for each request
        self.url, self.limits, self.sent, self._secret = url, limits, 0, secret
        self._headers = {"content-type": "application/json", "user-agent": NAME_OF_KD, **headers}
        self._near = near
        self._client: Any = None
        self._lock, self._free_at, self._stopped = Lock(), 0.0, Event()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Within it, the service can be asked."""
        options = {"timeout": self.limits.timeout, "follow_redirects": False, "trust_env": not self._near}
        with self.http.Client(headers=self._headers, **options) as self._client:
            yield

    def stop(self) -> None:
        """Ask nothing more: what is under way ends, what waits does not begin."""
        self._stopped.set()

    def ask(self, body: bytes, understand: Any) -> Any:
        """Return what `understand` makes of the answer's JSON, asking again while there is hope. Raises Refused or
        Unanswered where there is none, Stop where nobody is to be asked any more.
        """

        def again(error: Exception) -> bool | float:
            if not isinstance(error, Unanswered) or self._stopped.is_set():
                return False
            return AT_ONCE if error.waited else True  # all wait for their turn

        patience = {
            "attempts": self.limits.attempts,
            "timeout": None,
            "wait_initial": BACKOFF,
            "wait_max": MOST_BACKOFF,
        }
        for attempt in self.stamina.retry_context(on=again, **patience):
            with attempt:
                return self._once(body, understand)

    def _once(self, body: bytes, understand: Any) -> Any:
        self._turn()
        try:
            content = self._send(body)
            return understand(json.loads(content))
        except (ValueError, RecursionError) as error:
            raise Unanswered(self._clean(f"an answer that cannot be used: {first_line(error)}")) from error
        except self.http.TransportError as error:
            kind = type(error).__name__
            raise Unanswered(self._clean(f"{kind}: {first_line(error)}" if str(error) else kind)) from error
        except self.http.HTTPError as error:
            raise Unanswered(self._clean(f"{type(error).__name__}: {first_line(error)}")) from error

    def _turn(self) -> None:
        """Wait until another request is allowed, and count it."""
        with self._lock:
            if self._stopped.is_set():
                raise Stop("interrupted")
            most = self.limits.max_requests
            if most is not None and self.sent >= most:
                raise Stop(f"teacher.max_requests={most} are made")
            self.sent += 1
            begins = max(time.monotonic(), self._free_at)
            if self.limits.per_second:
                self._free_at = begins + 1 / self.limits.per_second
        if self._stopped.wait(max(0.0, begins - time.monotonic())):
            raise Stop("interrupted")

    def _send(self, body: bytes) -> bytes:
        url, ends = self.http.URL(self.url), time.monotonic() + self.limits.timeout
        for _ in range(REDIRECTS + 1):
            with self._client.stream("POST", url, content=body) as response:
                if response.status_code in (301, 302, 303, 307, 308):
                    url = self._redirected(url, response)
                    continue
                content = self._read(response, ends)
            if response.status_code in AGAIN:
                raise Unanswered(self._said(response, content), self._wait(response))
            if response.status_code in FOR_ALL:
                raise Stop(self._said(response, content))
            if not 200 <= response.status_code < 300:
                raise Refused(self._said(response, content))
            return content
        raise Stop(f"it redirects more than {REDIRECTS} times")

    def _redirected(self, url: Any, response: Any) -> Any:
        there = url.join(response.headers.get("location", ""))
        if (there.scheme, there.host, there.port) != (url.scheme, url.host, url.port):
            raise Stop(f"it redirects to another host, {there.host}, which is not followed")
        if response.status_code not in (307, 308):
            raise Stop(f"it redirects ({response.status_code}) to {there.path}: give that address")
        return there

    def _read(self, response: Any, ends: float) -> bytes:
        """The body, as long as it is short and comes in time."""
        content = bytearray()
        if response.headers.get("content-length", "0").isdecimal():
            self._expect_short(int(response.headers.get("content-length", "0")))
        for chunk in response.iter_bytes(1 << 16):
            content += chunk
            self._expect_short(len(content))
            if time.monotonic() > ends:
                raise Unanswered(f"no whole answer within {self.limits.timeout:g} s")
        return bytes(content)

    @staticmethod
    def _expect_short(size: int) -> None:
        if size > LARGEST:
            raise Refused(f"an answer of more than {LARGEST >> 20} MB")

    def _wait(self, response: Any) -> bool:
        """Whether Retry-After says when to come again: everybody waits for so long."""
        said = response.headers.get("retry-after", "").strip()
        try:
            seconds = float(said)
        except ValueError:
            try:
                seconds = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
            except (ValueError, TypeError):
                return False
        if not seconds <= LONGEST_WAIT:
            raise Stop(f"it asks to wait for {seconds:.0f} s")
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic() + max(0.0, seconds))
        return True

    def _said(self, response: Any, content: bytes) -> str:
        text = " ".join(content[:500].decode(errors="replace").split())[:200]
        return self._clean(f"status {response.status_code}{f': {text}' if text else ''}")

    def _clean(self, text: str) -> str:
        return shown(text.replace(self._secret, "***") if self._secret else text)


def secret_of(variable: str | None) -> str | None:
    """Return the token in an environment variable; ForeignError where there is none, or none that a header can hold."""
    if variable is None:
        return None
    token = os.environ.get(variable, "").strip()
    if not token or not token.isascii() or not token.isprintable():
        what = "is not set" if not token else "holds no token"
        raise ForeignError(f"{{}}: the environment variable {variable} {what}.", "", ".token")
    return token
