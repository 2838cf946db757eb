"""Basic authentication against bcrypt hashes, with a cache of results: one check takes at least 50 ms."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import bcrypt
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

from exporter.web.fair_queue import BusyError, Turns, network_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

OPEN_PATHS = frozenset({"/-/healthy", "/-/ready"})
CACHED_REFUSALS = 128
WAITING_CHECKS = 32  # 2 s of one core at the usual cost of 10
MAX_PASSWORD_BYTES = 72  # bcrypt ignores the rest
# Stands in for the hash of an unknown user, so that the time of a check does not reveal which users exist.
_UNKNOWN_USER = b"$2b$10$emScLTa4sRmhINXadHG/reA0BdF2NC5Se6Mr0VrP332rUhszrflVC"


class BasicAuth:
    """Lets a request through if its name and password match; /-/healthy and /-/ready are open to all.

    Checks run one at a time in a thread, round robin over client addresses. Results are cached under a keyed digest, so
    no password is stored. A flood of wrong passwords evicts wrong ones only and locks no right one out: the check of a
    client that has disconnected is dropped, and beyond `WAITING_CHECKS` the address with the most gets a 503 at once.

    Args:
        users: name -> bcrypt hash.
    """

    def __init__(self, app: ASGIApp, users: Mapping[str, str]) -> None:
        self._app = app
        self._users = {name: value.encode() for name, value in users.items()}
        self._key = secrets.token_bytes(32)
        self._right: set[bytes] = set()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._turns = Turns(WAITING_CHECKS)
        self._checker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bcrypt")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401, or 503."""
        answer = self._app
        client, header = network_of((scope.get("client") or ("",))[0]), Headers(scope=scope).get("authorization", "")
        try:
            if scope["path"] not in OPEN_PATHS and not await self._is_allowed(header, receive, client):
                answer = PlainTextResponse("Unauthorized\n", 401, {"WWW-Authenticate": 'Basic realm="metrics"'})
        except BusyError:
            answer = PlainTextResponse("Too many passwords to check.\n", 503, {"Retry-After": "1"})
        await answer(scope, receive, send)

    async def _is_allowed(self, header: str, receive: Receive, client: str) -> bool:
        scheme, _, encoded = header.partition(" ")
        if scheme.lower() != "basic":
            return False
        digest = hashlib.blake2b(encoded.encode(), key=self._key).digest()
        if (known := self._known(digest)) is not None:
            return known
        check, leave = asyncio.create_task(self._checked(digest, encoded, client)), asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({check, leave}, return_when=asyncio.FIRST_COMPLETED)
            return check.done() and check.result()
        finally:
            check.cancel()
            leave.cancel()

    async def _checked(self, digest: bytes, encoded: str, client: str) -> bool:
        async with self._turns.turn(client):
            if (known := self._known(digest)) is not None:  # another request found it meanwhile
                return known
            is_right = await asyncio.get_running_loop().run_in_executor(self._checker, self._check, encoded)
        if is_right:
            self._right.add(digest)
        else:
            self._wrong[digest] = None
            if len(self._wrong) > CACHED_REFUSALS:
                self._wrong.popitem(last=False)
        return is_right

    def _known(self, digest: bytes) -> bool | None:
        return True if digest in self._right else False if digest in self._wrong else None

    def _check(self, encoded: str) -> bool:
        try:
            name, _, password = base64.b64decode(encoded, validate=True).partition(b":")
            known = self._users.get(name.decode())
        except (binascii.Error, ValueError):
            return False
        is_short = len(password) <= MAX_PASSWORD_BYTES
        return is_short and bcrypt.checkpw(password, known or _UNKNOWN_USER) and known is not None


async def _left(receive: Receive) -> None:
    """Return once the client has disconnected; ignore what it still sends."""
    while (await receive())["type"] != "http.disconnect":
        pass
