"""The API key of an engine (`--api-key`): read from a file or a variable, and sent to the engine only.

It is never an argument: everyone on a host sees command lines, and manifests contain them.
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
"""The variable from which vLLM itself reads its key."""

VARIABLES = (OWN_VARIABLE, "OPENAI_API_KEY")
SECRET_FLAGS = {"--api-key": OWN_VARIABLE, "--hf-token": "HF_TOKEN"}
MAX_KEY_BYTES = 8192
KEY_PATTERN = re.compile(r"[!-~]+")
REMEDY = f"Name a file that contains the key in {FILE_VARIABLE}, or set {' or '.join(VARIABLES)}."
REFUSALS = {401, 403}


def read_key(environ: Mapping[str, str] = os.environ, variables: Sequence[str] = VARIABLES) -> str | None:
    """Return the key for an engine, None if none is given: from the file, else from the first variable that is set.

    Args:
        environ: the environment.
        variables: the variables that may contain it. For an engine that we start, only vLLM's own: it must not get the
            key of another service.

    Raises:
        UsageError: the file cannot be read, or its text is not a key. The message never repeats it.
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
            f"The content of {source} is not a key.",
            f"A key is one word of printable ASCII, up to {MAX_KEY_BYTES} characters.",
        )
    return text


def refuse_secrets(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Return an engine's arguments if they contain no secret: users of the host see them, and manifests keep them.

    Raises:
        UsageError: there is a secret, even with an abbreviated flag, as vLLM allows. The message does not repeat it.
    """
    for argument in arguments:
        flag = argument.partition("=")[0].replace("_", "-")
        for secret, variable in SECRET_FLAGS.items():
            if len(flag) > len("--a") and secret.startswith(flag):
                cause = f"Every user of this host would see the engine's argument {secret}."
                raise UsageError(cause, f"Set {variable}, which vLLM reads itself.")
    return arguments


class KeyAuth(httpx.Auth):
    """Adds the key to requests that an engine guards: the API under `/v1` and its tokenizer, nothing else."""

    def __init__(self, endpoint: str, key: str) -> None:
        base = unquote(urlsplit(endpoint).path)  # as httpx shows a path
        self._api, self._tokenizer = f"{base}/v1/", f"{base}/tokenize"
        self._header = f"Bearer {key}"

    def guards(self, path: str) -> bool:
        """Return whether the engine requires a key at this path."""
        return path.startswith(self._api) or path == self._tokenizer

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        """Yield the request, with the key if its path is guarded."""
        if self.guards(request.url.path):
            request.headers["Authorization"] = self._header
        yield request


def unanswered(error: httpx.HTTPError, server: str, what: str) -> Hop2RagError:
    """Return the error for a request that a server did not answer successfully.

    `what` is the request, such as "a canary completion".
    """
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        if status not in REFUSALS:
            return DependencyDownError(f"{server} answered {what} with {status}.", "Look at the engine's log.")
        if "Authorization" in error.request.headers:
            return UsageError(f"{server} refuses the key (HTTP {status}, {what}).", f"Give the right one. {REMEDY}")
        if not KeyAuth(server, "").guards(error.request.url.path):
            remedy = "A key is sent to /v1 only; leave the metrics open to this host."
            return UsageError(f"{server} asks for a key on {error.request.url.path} (HTTP {status}).", remedy)
        return UsageError(f"{server} asks for a key (HTTP {status}, {what}).", REMEDY)
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        remedy = "Name its authority's certificate in SSL_CERT_FILE; Prometheus needs it too."
        return UsageError(f"The certificate of {server} is not trusted here.", remedy)
    return DependencyDownError(
        f"{server} is unreachable ({type(error).__name__}, {what}).",
        "Start it (`hop2rag up`), or check --vllm-endpoint.",
    )
