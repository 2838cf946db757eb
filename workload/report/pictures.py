"""A run's pictures on its page: each under its own title, which its file carries, with its panels as words."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

if TYPE_CHECKING:
    from pathlib import Path


def picture_of(path: Path) -> dict[str, str]:
    """Return a PNG's name, title, words for readers who do not see it, and bytes in base64.

    A picture that carries no title, such as an older release's, has its file's name for one.
    """
    try:
        with Image.open(path) as picture:
            carried = dict(picture.info)
    except UnidentifiedImageError:
        carried = {}
    title = str(carried.get("Title") or path.name)
    words = ". ".join(filter(None, (title, str(carried.get("Description", "")))))
    return {"name": path.name, "title": title, "alt": words, "data": base64.b64encode(path.read_bytes()).decode()}
