"""Grafana's HTTP API: health, dashboards, annotations, snapshots, and pictures of panels through its renderer."""

from __future__ import annotations

import struct
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import requests
from grafana_api.grafana_face import GrafanaFace

from workload.errors import DependencyDownError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIMEOUT_SECONDS = 10.0
RENDER_TIMEOUT_SECONDS = 60
"""A renderer starts a browser for each picture."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
LOOPBACK = {"127.0.0.1", "::1", "localhost"}
REMEDIES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "Give the token of a service account in GRAFANA_TOKEN or GRAFANA_TOKEN_FILE.",
    HTTPStatus.FORBIDDEN: "Pictures need the role Viewer; annotations and snapshots need Editor.",
    HTTPStatus.NOT_FOUND: "Check the address with its sub-path, if any, and that the dashboards are provisioned.",
    HTTPStatus.PRECONDITION_FAILED: "It was changed meanwhile; try again.",
    HTTPStatus.TOO_MANY_REQUESTS: "Try again later, or raise Grafana's limit.",
}


class GrafanaError(DependencyDownError):
    """Grafana does not answer, or answers something unusable."""


class NoRendererError(GrafanaError):
    """Grafana has no image renderer, or answered with a placeholder."""


class Grafana:
    """Asks one Grafana with a service account's token, which no message contains.

    Args:
        url: its address without credentials, with the sub-path if there is one.
        token: the token; empty for anonymous access.
        timeout_s: the limit of one request in seconds; pictures have another.
    """

    def __init__(self, url: str, token: str = "", *, timeout_s: float = TIMEOUT_SECONDS) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        self._session = _Session(self.url, token)
        # A Grafana on this host is asked without a proxy.
        self._session.trust_env = parts.hostname not in LOOPBACK
        prefix = f"{parts.path.strip('/')}/" if parts.path else ""
        self._timeout_s = timeout_s
        self._face = GrafanaFace(token, parts.netloc, None, prefix, parts.scheme, timeout=timeout_s)
        self._face.api.s, self._face.api.auth = self._session, self._session.auth

    def health(self) -> dict[str, Any]:
        """Return the answer of `/api/health`: `database`, and `version` if shown.

        Raises:
            GrafanaError: it does not answer as Grafana does.
        """
        return dict(self._json("/api/health"))

    def can_render(self) -> bool:
        """Return whether an image renderer is set up; without one, Grafana answers a placeholder with status 200.

        Raises:
            GrafanaError: it does not answer as Grafana does.
        """
        return self._json("/api/frontend/settings").get("rendererAvailable") is True

    def dashboard(self, uid: str) -> dict[str, Any]:
        """Return a dashboard's JSON.

        Raises:
            GrafanaError: no dashboard with this uid is visible.
        """
        return dict(_field(self._face.dashboard.get_dashboard(uid), "dashboard"))

    def annotate(self, start: float, end: float | None, text: str, tags: Sequence[str]) -> int:
        """Mark an interval, or an instant where `end` is None, on all dashboards that ask for these tags.

        Times are in seconds since the epoch; dashboards select by `tags`. Returns the annotation's id.

        Raises:
            GrafanaError: Grafana did not accept it.
        """
        times = _milliseconds(start), None if end is None else _milliseconds(end)
        answer = self._face.annotations.add_annotation(None, None, *times, list(tags), text)
        return int(_field(answer, "id"))

    def snapshot(self, dashboard: Mapping[str, Any], name: str, expires_seconds: int | None = None) -> str:
        """Store a dashboard with its data embedded (see `workload.export.snapshot`) and return its address.

        Raises:
            GrafanaError: Grafana did not accept it.
        """
        return str(_field(self._face.snapshots.create_new_snapshot(dict(dashboard), name, expires_seconds), "url"))

    def picture(
        self, uid: str, panel: int, start: float, end: float, *, variables: Mapping[str, str], size: tuple[int, int]
    ) -> bytes:
        """Return a panel as PNG.

        Times are in seconds since the epoch; `size` is width and height in pixels.

        Raises:
            NoRendererError: the answer is not a picture of this size: there is no renderer, or it is over its limit.
            GrafanaError: any other failure.
        """
        width, height = size
        asked: dict[str, str | int] = {
            "panelId": panel,
            "from": _milliseconds(start),
            "to": _milliseconds(end),
            "width": width,
            "height": height,
            "tz": "UTC",
            "theme": "light",
            "timeout": RENDER_TIMEOUT_SECONDS,
            **{f"var-{name}": value for name, value in variables.items()},
        }
        url = f"{self.url}/render/d-solo/{uid}/{uid}"
        response = self._session.get(url, params=asked, timeout=RENDER_TIMEOUT_SECONDS + self._timeout_s)
        if png_size(response.content) != size:
            raise NoRendererError(
                f"Grafana at {self.url} answered with a placeholder instead of panel {panel} of {uid}.",
                "Set up grafana-image-renderer, or wait: it may be over its limit.",
            )
        return response.content

    def _json(self, path: str) -> dict[str, Any]:
        answer = self._session.get(self.url + path, timeout=self._timeout_s).json()
        if not isinstance(answer, dict):
            raise GrafanaError(f"{self.url}{path} did not answer as Grafana's API.", REMEDIES[HTTPStatus.NOT_FOUND])
        return answer


class _Session(requests.Session):
    """Turns every failure into one line, omits null fields, and never follows a redirect with the token."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__()
        self._url = url
        self._token = token
        self.auth = self._sign  # always set, so that .netrc is not read
        self.headers["User-Agent"] = "hop2rag"

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; return the answer if it is 2xx and either JSON or a picture."""
        if isinstance(body := kwargs.get("json"), dict):
            # Grafana's specification allows no null in these bodies, but the library sends null for omitted values.
            kwargs["json"] = {name: value for name, value in body.items() if value is not None}
        try:
            response = super().request(method, url, *args, **{**kwargs, "allow_redirects": False})
        except requests.RequestException as error:
            raise GrafanaError(
                f"Grafana at {self._url} does not answer ({type(error).__name__}).", "Start it, or check GRAFANA_URL."
            ) from None  # the cause contains the request, and with it the token
        path = urlsplit(str(url)).path
        if not response.ok or response.is_redirect:
            self._refuse(path, response)
        if not response.headers.get("Content-Type", "").startswith("image/") and _parsed(response) is None:
            says = f"Grafana at {self._url} answered {path} with something other than JSON."
            raise GrafanaError(says, REMEDIES[HTTPStatus.NOT_FOUND])
        return response

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def _refuse(self, path: str, response: requests.Response) -> NoReturn:
        status, body = response.status_code, _parsed(response)
        remedy = REMEDIES.get(status, "Look at Grafana's log.")
        if response.is_redirect:
            remedy = f"It redirects to {response.headers['Location'].partition('?')[0]}: give that address."
        elif after := response.headers.get("Retry-After", ""):
            remedy = f"{remedy} It says to wait {after[:40]} s."
        words = str(body["message"]) if isinstance(body, dict) and body.get("message") else ""
        if self._token:
            words = words.replace(self._token, "...")
        says = f": {' '.join(words.split())[:200]}" if words else ""
        raise GrafanaError(f"Grafana at {self._url} answered {path} with HTTP {status}{says}.", remedy)


def _parsed(response: requests.Response) -> Any:
    """Return an answer's JSON; None if it is not JSON."""
    try:
        return response.json()
    except requests.JSONDecodeError:
        return None


def _field(answer: Any, name: str) -> Any:
    try:
        return answer[name]
    except (KeyError, TypeError):
        raise GrafanaError(f"Grafana's answer has no {name!r}.", "This release may have another API.") from None


def png_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels from a PNG's header; None for anything else."""
    if not data.startswith(PNG_SIGNATURE) or data[12:16] != b"IHDR" or len(data) < 24:
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
