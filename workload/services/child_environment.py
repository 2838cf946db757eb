"""The environment of the programs that we start: the variables that each needs, by name, and nothing else.

A shell has tokens of Grafana, of model services, of clouds. A child with all of them could reveal them in a log, an
error report or /proc, so each kind of child gets a list of its own.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PLAIN = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR"),
    *("XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH", "LD_PRELOAD", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("GOMAXPROCS", "GOMEMLIMIT"),
)
"""For every program: paths of programs, files and libraries, the language, limits of Go's runtime."""

PYTHON = (
    *(*PLAIN, "PYTHON*", "VIRTUAL_ENV", "MALLOC_*"),
    *("OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "NUMEXPR_*", "TOKENIZERS_PARALLELISM"),
)
"""For Python: also its own variables, and those of numerical libraries."""

DOWNLOAD = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
"""For downloads: the proxies, whose addresses may contain a password."""

INSTALLER = (*PYTHON, *DOWNLOAD, "PIP_*", "APT_CONFIG", "DEBIAN_FRONTEND")
"""For pip and apt-get."""

ENGINE = (
    *(*PYTHON, *DOWNLOAD, "VLLM_*", "HF_*", "HUGGINGFACE_*", "TRANSFORMERS_*", "TORCH*", "PYTORCH_*", "TRITON_*"),
    *("CUDA_*", "NVIDIA_*", "NCCL_*", "GLOO_*", "FLASHINFER_*", "ROCM_*", "HIP_*", "HSA_*", "RAY_*", "CC", "CXX"),
)
"""For vLLM: also its own settings and those of its libraries and devices, with HF_TOKEN for a gated model."""

SPANS = ("OTEL_*",)
"""For an engine that exports spans: the collector may require a header."""


def child_environment(names: tuple[str, ...] = PLAIN, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that match `names`, a list of names and patterns such as "LC_*"."""
    return {name: value for name, value in environ.items() if any(fnmatchcase(name, each) for each in names)}
