"""A rendered folder: what its reader changed is never lost without a word, and nothing else stands in the way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from workload.errors import StorageError, UsageError
from workload.watch.folder import RECORD, read, write

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"README.md": "read me", "prometheus/rules/a.yml": "groups: []\n"}


def contents(folder: Path) -> dict[str, str]:
    """Return the files of a folder by their paths, without the record."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {str(path.relative_to(folder)): path.read_text() for path in paths}


def test_others_can_read_what_is_written(tmp_path: Path) -> None:
    """Prometheus is another user."""
    out = tmp_path / "out"
    assert {path.name for path in write(out, FILES, {"format": "files"})} == {"README.md", "a.yml", RECORD}
    assert contents(out) == FILES
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in out.rglob("*"))
    assert read(out)["format"] == "files"


def test_what_was_rendered_is_replaced_and_what_is_gone_is_removed(tmp_path: Path) -> None:
    """A rule of the last version that stays behind fires for ever."""
    write(tmp_path, FILES, {})
    later = {"README.md": "read me again"}
    write(tmp_path, later, {})
    assert contents(tmp_path) == later
    write(tmp_path, later, {})


@pytest.mark.parametrize("name", FILES)
def test_what_was_changed_by_hand_stays(tmp_path: Path, name: str) -> None:
    """The refusal names the file and changes none."""
    write(tmp_path, FILES, {})
    (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    for files in (dict.fromkeys(FILES, "new"), {}):
        with pytest.raises(UsageError, match=name):
            write(tmp_path, files, {})
        assert contents(tmp_path) == before
    write(tmp_path, FILES, {}, overwrites=True)
    assert contents(tmp_path) == FILES


def test_a_file_that_was_never_ours_stays(tmp_path: Path) -> None:
    """`--out .` in somebody's repository must not take its README."""
    (tmp_path / "README.md").write_text("theirs")
    with pytest.raises(UsageError, match=r"README\.md"):
        write(tmp_path, FILES, {})
    assert contents(tmp_path) == {"README.md": "theirs"}


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"files": 1}', "[" * 100_000])
def test_a_damaged_record_is_no_record(tmp_path: Path, record: str) -> None:
    """Nothing is known of such a folder, so nothing in it is replaced."""
    write(tmp_path, FILES, {})
    (tmp_path / RECORD).write_text(record)
    with pytest.raises(UsageError, match="has no"):
        write(tmp_path, FILES, {})


def test_names_in_a_record_do_not_lead_out(tmp_path: Path) -> None:
    """A folder from a stranger must not remove a file beside it."""
    out = tmp_path / "out"
    write(out, FILES, {})
    victim = tmp_path / "victim"
    victim.write_text("read me")
    record = read(out)
    record["files"]["../victim"] = record["files"]["README.md"]
    (out / RECORD).write_text(json.dumps(record))
    with pytest.raises(UsageError, match="leads out"):
        write(out, FILES, {})
    assert victim.exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A file stands where the folder should."""
    (tmp_path / "out").write_text("")
    with pytest.raises(StorageError):
        write(tmp_path / "out", FILES, {})
