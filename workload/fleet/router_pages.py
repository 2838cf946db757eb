"""The two pages on which a router names its servers; vLLM itself has neither."""

from __future__ import annotations

from typing import Any

import httpx


def workers_of(client: httpx.Client) -> list[str] | None:
    """Return the addresses of a router's servers; None if this is no router. vLLM has neither page."""
    for path, read in (("/workers", _urls_of_workers), ("/list_workers", _urls)):
        try:
            answer = client.get(path)
            if answer.is_success and (found := read(answer.json())) is not None:
                return found
        except (httpx.HTTPError, ValueError, RecursionError):
            continue
    return None


def _urls_of_workers(page: Any) -> list[str] | None:
    workers = page.get("workers") if isinstance(page, dict) else None
    return (
        _urls({"urls": [each.get("url") if isinstance(each, dict) else None for each in workers]})
        if isinstance(workers, list)
        else None
    )


def _urls(page: Any) -> list[str] | None:
    urls = page.get("urls") if isinstance(page, dict) else None
    return urls if isinstance(urls, list) and all(isinstance(url, str) for url in urls) else None
