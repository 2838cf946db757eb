"""The key of an engine that asks for one (`--api-key`): read from a file or a variable, sent to the engine alone.

It is never an argument: command lines are seen by everybody on a host, and end in manifests.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import httpx

from workload.errors import DependencyDownError, Hop2RagError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

FILE_VARIABLE = "HOP2RAG_API_KEY_FILE"
OWN_VARIABLE = "VLLM_API_KEY"
"""Where vLLM itself reads the key that it asks for."""

VARIABLES = (OWN_VARIABLE, "OPENAI_API_KEY")
SECRET_FLAGS = {"--api-key": OWN_VARIABLE, "--hf-token": "HF_TOKEN"}
MAX_KEY_BYTES = 8192
KEY_PATTERN = re.compile(r"[!-~]+")
REMEDY = f"Name a file that holds the key in {FILE_VARIABLE}, or set {' or '.join(VARIABLES)}."
REFUSALS = {401, 403}


def read_key(environ: Mapping[str, str] = os.environ, variables: Sequence[str] = VARIABLES) -> str | None:
    """Return the key for an engine, None where none is given: the file wins, then the first of the variables.

    Args:
        environ: the environment.
        variables: which variables hold it. For an engine that we start it is vLLM's own alone: the key of a service
            elsewhere is none of its business.

    Raises:
        UsageError: the file cannot be read, or what is given is no key. The message never repeats it.
    """
    if path := environ.get(FILE_VARIABLE):
        try:
            with Path(path).open("rb") as stream:
                text = stream.read(MAX_KEY_BYTES + 1).decode("utf-8-sig").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text"
            raise UsageError(f"The file in {FILE_VARIABLE} cannot be read: {reason}.", REMEDY) from error
        source = f"the file in {FILE_VARIABLE}"
    else:
        source, text = next(((name, environ[name].strip()) for name in variables if environ.get(name)), ("", ""))
        if not source:
            return None
    if len(text) > MAX_KEY_BYTES or not KEY_PATTERN.fullmatch(text):
        raise UsageError(
            f"What {source} holds is no key.",
            f"A key is one word of printable ASCII, up to {MAX_KEY_BYTES} characters.",
        )
    return text


def refuse_secrets(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Return an engine's arguments, which hold no secret: every user of the host sees them, and a manifest keeps them.

    Raises:
        UsageError: there is one, also where its flag is abbreviated, as vLLM allows. The message does not repeat it.
    """
    for argument in arguments:
        flag = argument.partition("=")[0].replace("_", "-")
        for secret, variable in SECRET_FLAGS.items():
            if len(flag) > len("--a") and secret.startswith(flag):
                told = f"The engine's argument {secret} would be seen by every user of this host."
                raise UsageError(told, f"Set {variable}, which vLLM reads itself.")
    return arguments


class KeyAuth(httpx.Auth):
    """Puts the key on what an engine guards, the API under `/v1` and its tokenizer, and on nothing else."""

    def __init__(self, endpoint: str, key: str) -> None:
        base = unquote(urlsplit(endpoint).path)  # as httpx tells a path
        self._api, self._tokenizer = f"{base}/v1/", f"{base}/tokenize"
        self._header = f"Bearer {key}"

    def guards(self, path: str) -> bool:
        """Return whether the engine asks for a key at this path."""
        return path.startswith(self._api) or path == self._tokenizer

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        """Pass the request on, with the key where it belongs."""
        if self.guards(request.url.path):
            request.headers["Authorization"] = self._header
        yield request


def unanswered(error: httpx.HTTPError, server: str, what: str) -> Hop2RagError:
    """Return the error for a request of ours that a server did not answer well.

    Args:
        error: what happened.
        server: its address.
        what: what was asked, such as "a canary completion".
    """
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        if status not in REFUSALS:
            return DependencyDownError(f"{server} answered {what} with {status}.", "Look at the engine's log.")
        if "Authorization" in error.request.headers:
            return UsageError(f"{server} refuses the key (HTTP {status}, {what}).", f"Give the right one. {REMEDY}")
        if not KeyAuth(server, "").guards(error.request.url.path):
            remedy = "A key is sent to /v1 alone; leave what Prometheus reads open to this host."
            return UsageError(f"{server} asks for a key on {error.request.url.path} (HTTP {status}).", remedy)
        return UsageError(f"{server} asks for a key (HTTP {status}, {what}).", REMEDY)
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        remedy = "Name its authority's certificate in SSL_CERT_FILE; Prometheus needs it too."
        return UsageError(f"The certificate of {server} is not trusted here.", remedy)
    return DependencyDownError(
        f"{server} is unreachable ({type(error).__name__}, {what}).",
        "Start it (`hop2rag up`), or check --vllm-endpoint.",
    )
