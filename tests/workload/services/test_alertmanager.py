"""Our own Alertmanager: configured for the runner, distinguished from others, and asked which alerts fire."""

from __future__ import annotations

import json
import os
import stat
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Self

import bcrypt
import pytest
import yaml

from workload.errors import DependencyDownError, UsageError
from workload.paths import asset
from workload.services.alertmanager import (
    PASSWORD,
    WEB_CONFIG,
    AlertmanagerClient,
    AttachedAlertmanager,
    LocalAlertmanager,
    basic_auth,
    render_config,
)
from workload.services.locks import THIS_COMMAND, FileLock, Requester, port_lock
from workload.services.prometheus_binary import AlertmanagerBinary, PrometheusBinary
from workload.services.prometheus_server import LocalPrometheus, loopback_session

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = asset("prometheus/alertmanager.yml")


class Answers(HTTPServer):
    """Answers each path with a status and a body."""

    def __init__(self, answers: dict[str, tuple[int, str]]) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                status, body = answers.get(self.path.partition("?")[0], (404, ""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        super().__init__(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()


def local(folder: Path, port: int, by: Requester = THIS_COMMAND) -> LocalAlertmanager:
    """Return one that would run a program that is not there."""
    binary = AlertmanagerBinary(("/nowhere/alertmanager",), folder)
    return LocalAlertmanager(binary, folder, loopback_session(), port=port, webhook="http://127.0.0.1:9/alerts", by=by)


def test_every_receiver_calls_the_runner_with_its_token(tmp_path: Path) -> None:
    """A receiver left on the template's address would steer another run, or nothing."""
    found = yaml.safe_load(render_config(CONFIG, webhook="http://127.0.0.1:1234/alerts", token_file=tmp_path / "t"))
    targets = [target for receiver in found["receivers"] for target in receiver["webhook_configs"]]
    assert {target["url"] for target in targets} == {"http://127.0.0.1:1234/alerts"}
    assert {target["http_config"]["authorization"]["credentials_file"] for target in targets} == {str(tmp_path / "t")}
    assert all(target["http_config"]["follow_redirects"] is False for target in targets)
    template = yaml.safe_load(CONFIG.read_text())
    assert (found["route"], found["inhibit_rules"]) == (template["route"], template["inhibit_rules"])


def test_the_token_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    """Whoever reads it can stop a run; whoever changes it cuts off the Alertmanager that is running."""
    first = local(tmp_path, 9)
    first._prepare()
    token = first.token
    local(tmp_path, 9)._prepare()
    assert local(tmp_path, 9).token == token
    assert len(token) >= 40
    assert stat.S_IMODE(first.token_file.stat().st_mode) == 0o600
    assert token not in (first.token_file.parent / "alertmanager.yml").read_text()


def test_ours_is_reused_and_gets_its_configuration_back(tmp_path: Path) -> None:
    """`soak` during `up`: one Alertmanager, reloaded with the soak's webhook, and afterwards with the one before."""
    answers: dict[str, tuple[int, str]] = {"/-/reload": (200, ""), "/-/ready": (200, "")}
    with Answers(answers) as server:
        alertmanager = local(tmp_path, server.server_port)
        reported = {"config": {"original": f"credentials_file: {alertmanager.token_file}"}}
        answers["/api/v2/status"] = (200, json.dumps(reported))
        config = tmp_path / f"alertmanager-{server.server_port}" / "alertmanager.yml"
        config.parent.mkdir()
        config.write_text("of up")
        with port_lock(tmp_path, "Alertmanager", server.server_port).acquire_now() as record:
            record.note(child=None, is_ready=True)
            assert alertmanager.start() is False
            assert "127.0.0.1:9/alerts" in config.read_text()
            assert alertmanager.calls_us()
            config.write_text("of somebody else")
            assert not alertmanager.calls_us()
            alertmanager.stop()
    assert server.asked.count("/-/reload") == 2
    assert config.read_text() == "of up"


def test_a_second_soak_waits_for_the_receiver(tmp_path: Path) -> None:
    """Rewritten under a running soak, the first would hear nothing more and stand still for hours."""
    said = list[str]()
    used = FileLock(tmp_path / "alertmanager-9", "Alertmanager on port 9")
    with used.acquire_now(Requester("hop2rag soak", "first")):
        waiting = threading.Thread(target=lambda: enter(local(tmp_path, 9, Requester("hop2rag soak", say=said.append))))
        waiting.start()
        while not said:
            waiting.join(0.01)
        assert not (tmp_path / "alertmanager-9" / "alertmanager.yml").exists()
    waiting.join(60)
    assert "hop2rag soak (run first, process" in said[0]
    assert (tmp_path / "alertmanager-9" / "alertmanager.yml").exists()


def enter(alertmanager: LocalAlertmanager) -> None:
    """Try to have it; the program is missing, which is reported only once it is our turn."""
    with pytest.raises(FileNotFoundError):
        alertmanager.__enter__()


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ((200, json.dumps({"config": {"original": "route: {}"}})), "Another Alertmanager"),
        ((200, "[]"), "but not by Alertmanager"),
        ((404, ""), "but not by Alertmanager"),
        ((401, "Unauthorized"), "Another Alertmanager"),
    ],
)
def test_somebody_else_s_is_left_alone(tmp_path: Path, answer: tuple[int, str], cause: str) -> None:
    """Its receivers are people; and something else on the port may not even speak HTTP."""
    with Answers({"/api/v2/status": answer}) as server, pytest.raises(UsageError, match=cause):
        local(tmp_path, server.server_port).start()
    assert not (tmp_path / f"alertmanager-{server.server_port}" / "alertmanager.yml").exists()


def test_a_client_asks_for_what_fires_and_is_heard(tmp_path: Path) -> None:
    """Silenced and inhibited alerts are not sent to the webhook either."""
    del tmp_path
    with Answers({"/-/ready": (200, ""), "/api/v2/alerts": (200, '[{"fingerprint": "f"}]')}) as server:
        client = AlertmanagerClient(f"http://127.0.0.1:{server.server_port}", loopback_session())
        assert client.ready()
        assert client.firing() == [{"fingerprint": "f"}]
    assert "active=true&silenced=false&inhibited=false" in server.asked[-1]
    assert not client.ready()
    with pytest.raises(DependencyDownError, match="does not answer"):
        client.firing()


@pytest.mark.parametrize("answer", ["{}", "null", '"text"', "7", "[" * 100_000, "not json"])
def test_an_answer_of_another_shape_is_reported_in_a_line(answer: str) -> None:
    """Something else on the port, or a proxy's page: the heartbeat asks again, and nothing ends."""
    with Answers({"/api/v2/alerts": (200, answer)}) as server, pytest.raises(DependencyDownError):
        AlertmanagerClient(f"http://127.0.0.1:{server.server_port}", loopback_session()).firing()


def test_its_password_is_new_with_each_start_and_for_its_owner_alone(tmp_path: Path) -> None:
    """Whoever may ask it may post alerts; a page in a browser cannot read a file."""
    umask = os.umask(0)
    try:
        alertmanager = local(tmp_path, 9)
        alertmanager._prepare()
    finally:
        os.umask(umask)
    folder = alertmanager.token_file.parent
    user, password = basic_auth(folder) or ("", "")
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in (PASSWORD, WEB_CONFIG)] == [0o600, 0o600]
    digest = yaml.safe_load((folder / WEB_CONFIG).read_text())["basic_auth_users"][user]
    assert bcrypt.checkpw(password.encode(), digest.encode())
    assert password not in " ".join(alertmanager._argv)
    alertmanager._configure()
    assert basic_auth(folder) == (user, password)
    alertmanager._prepare()
    assert basic_auth(folder) != (user, password)


def test_prometheus_learns_where_the_password_lies_and_not_what_it_is(tmp_path: Path) -> None:
    """Its configuration can be read over its API by whoever reaches it."""
    alertmanager = local(tmp_path, 9)
    alertmanager._prepare()
    binary = PrometheusBinary(tmp_path, tmp_path, (2, 42, 0))
    prometheus = LocalPrometheus(binary, tmp_path, loopback_session(), port=8, alertmanager=alertmanager.address)
    prometheus._configure()
    text = (tmp_path / "prometheus-8" / "prometheus.yml").read_text()
    (reported,) = yaml.safe_load(text)["alerting"]["alertmanagers"]
    folder = alertmanager.token_file.parent
    assert reported["basic_auth"] == {"username": "hop2rag", "password_file": str(folder / PASSWORD)}
    assert (basic_auth(folder) or ("", "?"))[1] not in text


def test_a_password_that_cannot_be_read_is_a_server_that_does_not_answer() -> None:
    """Whoever clears the cache in mid-run takes it away: the soak then pauses, and does not end in a traceback."""

    def password() -> tuple[str, str]:
        raise PermissionError

    client = AlertmanagerClient("http://127.0.0.1:9", loopback_session(), password)
    assert client.ready() is False
    with pytest.raises(DependencyDownError, match="does not answer"):
        client.firing()


def test_one_that_runs_already_is_asked_and_left_alone(tmp_path: Path) -> None:
    """Its receivers and its configuration are its owner's; ours is only the token that it presents."""
    token = tmp_path / "token"
    token.write_text("shared\n")
    with Answers({"/-/ready": (200, ""), "/api/v2/alerts": (200, "[]")}) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        with AttachedAlertmanager(url, token, loopback_session()) as alertmanager:
            assert (alertmanager.token, alertmanager.client.firing()) == ("shared", [])
    assert {path.partition("?")[0] for path in server.asked} == {"/-/ready", "/api/v2/alerts"}
    with pytest.raises(DependencyDownError, match=f"{url} is not ready"):
        AttachedAlertmanager(url, token, loopback_session()).__enter__()


def test_a_webhook_without_a_token_is_never_opened(tmp_path: Path) -> None:
    """An empty or missing file would let everyone steer."""
    (tmp_path / "empty").write_text("\n")
    for name in ("empty", "missing"):
        with pytest.raises(UsageError, match=name):
            AttachedAlertmanager("http://127.0.0.1:1", tmp_path / name, loopback_session())
