"""Stands in for vLLM's API server in tests of starting, attaching and stopping; run as a program by a fake `python`.

It understands the flags it is proved by, keeps a child as vLLM keeps its engine core, and fails as $VLLM_STUB says:
`unknown-flag`, `crash`, `hang` (answers everything but completions), `hang-later` (after one), `wrong-arm`, `mute`
(never listens), `shares` (its port, with another listener, as vLLM does). It listens once the file $VLLM_STUB_GATE
is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODE = os.environ.get("VLLM_STUB", "")
ARGS = sys.argv[1:]


def value(flag: str, default: str) -> str:
    """Return the value that follows a flag on the command line."""
    return ARGS[ARGS.index(flag) + 1] if flag in ARGS else default


CACHING = ("--no-enable-prefix-caching" not in ARGS) ^ (MODE == "wrong-arm")
ANSWERS = {
    "/version": json.dumps({"version": "0.32.0"}),
    "/v1/models": json.dumps(
        {
            "data": [
                {
                    "id": value("--served-model-name", "m"),
                    "root": value("--model", "m"),
                    "max_model_len": int(value("--max-model-len", "4096")),
                }
            ]
        }
    ),
    "/metrics": f'vllm:cache_config_info{{block_size="32",enable_prefix_caching="{CACHING}",num_gpu_blocks="7"}} 1\n',
    "/health": "",
}


completed: list[str] = []


class Handler(BaseHTTPRequestHandler):
    """Answers like the API server, as far as the tests ask."""

    def do_GET(self) -> None:
        """Answer with the server's facts."""
        if not self.refused():
            self.answer(ANSWERS[self.path])

    def do_POST(self) -> None:
        """Answer a completion."""
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.refused():
            return
        if MODE == "hang" or (MODE == "hang-later" and completed):
            time.sleep(600)
        completed.append(self.path)
        self.answer(json.dumps({"choices": [{"text": "!"}]}))

    def refused(self) -> bool:
        """Refuse a request without the key, like a vLLM that was started with one."""
        key = os.environ.get("VLLM_API_KEY")
        is_refused = bool(key) and self.path.startswith("/v1") and self.headers["Authorization"] != f"Bearer {key}"
        if is_refused:
            self.send_error(401)
        return is_refused

    def answer(self, body: str) -> None:
        """Send 200 with a body."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


if __name__ == "__main__":
    if MODE == "unknown-flag":
        sys.exit("api_server.py: error: unrecognized arguments: --disable-log-requests")
    if MODE == "crash":
        sys.exit("(EngineCore pid=1) ERROR 01-01 00:00:00 [core.py:1] ValueError: bad luck\nRuntimeError: See above.")
    core = subprocess.Popen(["sleep", "600"])
    print("core", core.pid, flush=True)
    gate = os.environ.get("VLLM_STUB_GATE")
    while MODE == "mute" or (gate and not Path(gate).exists()):
        time.sleep(0.02)
    ThreadingHTTPServer.allow_reuse_port = MODE == "shares"
    ThreadingHTTPServer(("127.0.0.1", int(value("--port", "0"))), Handler).serve_forever()
