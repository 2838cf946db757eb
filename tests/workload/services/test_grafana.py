"""Grafana's API as we use it: each request is checked against its specification, and each failure is one line."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from tests.stubs.grafana import TOKEN, StubGrafana, png
from workload.errors import UsageError
from workload.record.annotations import annotator, find_grafana, mark_action, mark_window
from workload.record.window import Window
from workload.services.grafana import Grafana, GrafanaError, NoRendererError, png_size
from workload.services.targets import ArmLabels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

START, END = 1_700_000_000.25, 1_700_000_060.5
LABELS = ArmLabels("r1", "vllm-metrics", "prefix-on")
SHOWN = {"title": "Overview", "uid": "overview", "panels": [{"id": 4, "title": "Hits"}]}
MODEL = {"panels": [], "time": {"from": "2023-11-14T22:13:20+00:00", "to": "2023-11-14T22:14:20+00:00"}} | {
    "title": "t",
    "schemaVersion": 42,
}
CALLS: dict[str, tuple[str, Callable[[Grafana], Any]]] = {
    "health": ("/api/health", Grafana.health),
    "settings": ("/api/frontend/settings", Grafana.can_render),
    "dashboard": ("/api/dashboards/uid/overview", lambda grafana: grafana.dashboard("overview")),
    "annotation": ("/api/annotations", lambda grafana: grafana.annotate(START, END, "text", ["tag"])),
    "snapshot": ("/api/snapshots", lambda grafana: grafana.snapshot(MODEL, "name")),
    "picture": (
        "/render/d-solo/overview/overview",
        lambda grafana: grafana.picture("overview", 4, START, END, variables={"run": "r1"}, size=(1000, 500)),
    ),
}


@pytest.fixture(params=["", "/grafana"], ids=["root", "sub-path"])
def server(request: pytest.FixtureRequest) -> Iterator[StubGrafana]:
    """Return a Grafana; at the end every request must have been as the specification wants it."""
    with StubGrafana(request.param) as running:
        running.dashboards["overview"] = SHOWN
        yield running
    assert running.faults == []


@pytest.fixture
def grafana(server: StubGrafana) -> Grafana:
    """Return a client of it."""
    return Grafana(server.url, TOKEN, timeout_s=5.0)


def test_what_is_well(server: StubGrafana, grafana: Grafana) -> None:
    """The whole of what we use, at its root and behind a reverse proxy's sub-path."""
    assert grafana.health() == {"database": "ok", "version": "12.4.0", "commit": "stub"}
    assert grafana.can_render()
    assert grafana.dashboard("overview") == SHOWN
    assert grafana.annotate(START, END, "window", ["a", "b"]) > 0
    assert grafana.snapshot(MODEL, "name", 3600) == f"{server.url}/dashboard/snapshot/K"
    picture = grafana.picture("overview", 4, START, END, variables={"run": "r1"}, size=(1000, 500))
    assert png_size(picture) == (1000, 500)
    by_path = {path.removeprefix(server.prefix): (query, body) for _, path, query, body in server.requests}
    assert by_path["/api/annotations"][1] == {
        "time": 1_700_000_000_250,
        "timeEnd": 1_700_000_060_500,
        "tags": ["a", "b"],
        "text": "window",
    }
    assert by_path["/render/d-solo/overview/overview"][0]["var-run"] == "r1"
    assert by_path["/api/snapshots"][1]["expires"] == 3600


def test_the_stub_sees_a_request_that_is_wrong() -> None:
    """A contract test that finds nothing anywhere proves nothing: here a null and a time in seconds."""
    with StubGrafana() as server:
        grafana = Grafana(server.url, TOKEN)
        grafana._session.post(f"{server.url}/api/annotations", json={"time": 1_700_000_000, "text": "t", "tags": ["x"]})
        assert "minimum" in server.faults[0]
        body = '{"text": null, "tags": ["x"], "time": 1700000000000}'
        kind = {"Content-Type": "application/json"}
        grafana._session.post(f"{server.url}/api/annotations", data=body, headers=kind)
        assert len(server.faults) == 2


@pytest.mark.parametrize(("path", "call"), CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("status", [401, 403, 404, 412, 429, 500, 502])
def test_a_refusal_is_one_line(
    server: StubGrafana, grafana: Grafana, path: str, call: Callable[[Grafana], Any], status: int
) -> None:
    """Each status has another remedy; all of them have the exit code of a dependency that cannot be used."""
    server.answers[server.prefix + path] = (status, b'{"message": "so\\nwhat"}', {"Content-Type": "application/json"})
    with pytest.raises(GrafanaError, match=rf"with HTTP {status}: so what\. \S") as caught:
        call(grafana)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((429, b"{}", {"Retry-After": "7"}), "to wait 7 s"),
        ((302, b"", {"Location": "http://h/login?secret=1"}), "redirects to http://h/login: give that"),
        ((200, b"<html>Sign in</html>", {"Content-Type": "text/html"}), "something other than JSON"),
        ((200, b"[]", {"Content-Type": "application/json"}), "did not answer as Grafana's API|no '"),
        ((200, b"{}", {"Content-Type": "application/json"}), "no '"),
        ((500, b'["message"]', {"Content-Type": "application/json"}), r"HTTP 500\."),
    ],
)
def test_an_answer_of_something_else(server: StubGrafana, answer: tuple[int, bytes, dict[str, str]], says: str) -> None:
    """A login page, a proxy or a shop answers 200 as well."""
    server.answers[f"{server.prefix}/api/dashboards/uid/overview"] = answer
    with pytest.raises(GrafanaError, match=says):
        Grafana(server.url, TOKEN).dashboard("overview")


def test_a_time_out_and_a_closed_port() -> None:
    """Neither may delay a run for longer than it allows, nor show where it came from."""
    with StubGrafana() as server:
        server.seconds = 0.5
        with pytest.raises(GrafanaError, match=r"does not answer \(ReadTimeout\)") as caught:
            Grafana(server.url, TOKEN, timeout_s=0.05).health()
    assert caught.value.__cause__ is None
    with pytest.raises(GrafanaError, match=r"does not answer \(ConnectionError\)"):
        Grafana("http://127.0.0.1:9", TOKEN).health()


def test_a_placeholder_is_no_picture(server: StubGrafana, grafana: Grafana) -> None:
    """Without a renderer, or over its limit, Grafana answers 200 with a picture that says so to human eyes only."""
    server.is_over_limit = True
    with pytest.raises(NoRendererError, match="placeholder instead of panel 4 of overview"):
        grafana.picture("overview", 4, START, END, variables={}, size=(1000, 500))
    server.has_renderer = False
    assert not grafana.can_render()


@pytest.mark.parametrize("data", [b"", b"GIF89a", png(3, 2)[:20], b"\x89PNG\r\n\x1a\n0000IEND0000000000"])
def test_what_is_no_png(data: bytes) -> None:
    """A half of a header has no size."""
    assert png_size(data) is None
    assert png_size(png(3, 2)) == (3, 2)


def test_the_token_is_never_reported(server: StubGrafana, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the log at its most talkative nor an error repeats it, even where the server does."""
    caplog.set_level(logging.DEBUG)
    grafana = Grafana(server.url, TOKEN)
    body = f'{{"message": "no {TOKEN} here"}}'.encode()
    server.answers[f"{server.prefix}/api/health"] = (500, body, {"Content-Type": "application/json"})
    with pytest.raises(GrafanaError) as caught:
        grafana.health()
    grafana.annotate(START, None, "t", ["x"])
    assert TOKEN not in str(caught.value) + caplog.text + repr(grafana)
    assert "/api/annotations" in caplog.text


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"GRAFANA_URL": "http://user:hunter2@host"}, "contains credentials.*GRAFANA_URL"),
        ({"GRAFANA_URL": "file:///etc/passwd"}, "scheme"),
        ({"GRAFANA_URL": "http://169.254.169.254/"}, "link-local"),
        ({"GRAFANA_URL": "http://127.0.0.1:3000", "GRAFANA_TOKEN": "a\r\nX: b"}, "blanks or characters"),
        ({"GRAFANA_URL": "http://127.0.0.1:3000", "GRAFANA_TOKEN_FILE": "/no/such/file"}, "cannot be read"),
    ],
)
def test_a_grafana_that_must_not_be_asked(environ: dict[str, str], says: str) -> None:
    """What comes from the environment is checked before anything is sent, and no secret is repeated."""
    with pytest.raises(UsageError, match=says) as caught:
        find_grafana(environ)
    assert "hunter2" not in str(caught.value)


def test_a_token_comes_from_a_file(server: StubGrafana, tmp_path: Path) -> None:
    """Compose and Kubernetes hand secrets over as files, with a newline at the end."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    found = find_grafana({"GRAFANA_URL": f"{server.url}/", "GRAFANA_TOKEN_FILE": str(tmp_path / "token")})
    assert found
    assert found.annotate(START, END, "t", ["x"]) > 0
    assert find_grafana({}) is None


def test_windows_and_actions_leave_marks(server: StubGrafana, grafana: Grafana) -> None:
    """Dashboards ask for these by tag; a mark under another tag is never seen."""
    said: list[str] = []
    annotate = annotator(grafana, said.append)
    mark_window(annotate, LABELS, Window(arm="prefix-on", block=1, point="c1", segment=0, start=START, end=END))
    mark_action(annotate, START, "VllmHung", "pause", "r1")
    window, action = (body for _, _, _, body in server.requests)
    assert window["text"] == "vllm-metrics: prefix-on, c1 (run r1)"
    assert window["tags"] == ["hop2rag-window", "vllm-metrics", "prefix-on", "r1"]
    assert action["tags"] == ["hop2rag-action", "VllmHung", "pause", "r1"]
    assert "timeEnd" not in action
    assert said == []


def test_a_mark_never_fails_a_run() -> None:
    """An hour of measurement is worth more than a green bar; one line says why there is none, not one line each."""
    said: list[str] = []
    annotate = annotator(Grafana("http://127.0.0.1:9", TOKEN, timeout_s=0.5), said.append)
    annotate(START, END, "t", ["x"])
    annotate(START, END, "t", ["x"])
    annotator(None, said.append)(START, END, "t", ["x"])
    assert len(said) == 1
    assert said[0].startswith("No annotations: Grafana at http://127.0.0.1:9 does not answer")
