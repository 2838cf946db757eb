"""YAML as people write it: in the given order, without anchors, each value on one line."""

from __future__ import annotations

from typing import Any

import yaml


class _Plain(yaml.CSafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        """Write a value again where it is used again."""
        del data
        return True


def written(*documents: Any) -> str:
    """Return documents as one text."""
    return yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, width=10_000, allow_unicode=True)
