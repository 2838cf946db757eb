"""`--web.config.file`: TLS and basic authentication, in a subset of the format of Prometheus's exporter-toolkit.

Supported: `tls_server_config` with `cert_file`, `key_file`, `client_ca_file`, `client_auth_type` and `min_version`, and
`basic_auth_users`. Any other key is refused, because a security setting that is silently ignored is a hole. Paths
are relative to the file. The file is read once, at start.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from exporter.errors import UsageError
from exporter.files import check_file

if TYPE_CHECKING:
    from pathlib import Path

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}")
_FLAG = "--web.config.file"
_SUPPORTED = (
    "Supported: tls_server_config (cert_file, key_file, client_ca_file, client_auth_type, min_version)"
    " and basic_auth_users."
)
ClientAuth = Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]
_VERIFY = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


def _check_hash(value: str) -> str:
    if not _BCRYPT.fullmatch(value):
        raise ValueError("must be a bcrypt hash of cost 4 to 14, as `htpasswd -nBC 10 NAME` prints it")
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsServerConfig(_Strict):
    """The certificate to serve with, and whether clients must show one."""

    cert_file: str
    key_file: str
    client_ca_file: str | None = None
    client_auth_type: ClientAuth = "NoClientCert"
    min_version: Literal["TLS12", "TLS13"] = "TLS12"

    def context(self, directory: Path) -> ssl.SSLContext:
        """Return the context; file names are relative to `directory`.

        Raises:
            UsageError: a file is missing or invalid.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self.min_version]
        wants_client = self.client_auth_type != "NoClientCert"
        if wants_client != (self.client_ca_file is not None):
            raise UsageError(
                f"client_auth_type {self.client_auth_type} and client_ca_file do not match.",
                "Set client_ca_file if and only if clients are verified.",
            )
        for name in filter(None, (self.cert_file, self.key_file, self.client_ca_file)):
            check_file(directory / name, f"See {_FLAG}.")
        try:
            # any password, even an empty one, keeps OpenSSL from asking for one at the terminal
            context.load_cert_chain(directory / self.cert_file, directory / self.key_file, password="")
            if self.client_ca_file:
                context.load_verify_locations(directory / self.client_ca_file)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise UsageError(
                f"The TLS files cannot be used: {getattr(error, 'strerror', None) or error}.", f"See {_FLAG}."
            ) from error
        context.verify_mode = _VERIFY[self.client_auth_type]
        return context


class WebConfig(_Strict):
    """The whole file. A missing section means no TLS or no authentication."""

    tls_server_config: TlsServerConfig | None = None
    basic_auth_users: dict[str, Annotated[str, AfterValidator(_check_hash)]] = {}


def read_web_config(path: Path) -> WebConfig:
    """Read and check the file.

    Raises:
        UsageError: it cannot be read, is not YAML, or has an unsupported key or value; the message names the first.
    """
    check_file(path, f"See {_FLAG}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return WebConfig.model_validate(content or {})
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", f"See {_FLAG}.") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]  # the input contains password hashes
        where = "".join(letter for letter in ".".join(map(str, first["loc"])) if letter.isprintable())
        raise UsageError(f"{path}: {where or 'content'}: {first['msg']}.", _SUPPORTED) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # ValueError: not UTF-8, or a bad date
        raise UsageError(f"{path} is not YAML.", f"See {_FLAG}.") from error
