"""Checks that a store's vector index fits in memory before Chroma loads all of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from workload.corpus.chroma import connect
from workload.errors import MissingPartError

if TYPE_CHECKING:
    from collections.abc import Callable

# Per record, hnswlib has a vector in float32, 2 M links of 4 bytes with their count, and a label. Chroma's default for
# M is 16.
LINKS_BYTES, LABEL_BYTES = 2 * 16 * 4 + 4, 8
# Besides: ids in both directions, and spare capacity. From 5,000 to 20,000 records of 384 dimensions, a searching
# process grew by 1,643 bytes per record and an indexing one by 1,720; this formula gives 1,976. The constant 25 MiB are
# in the reserve. See docs/scaling.md.
OVERHEAD_BYTES = 300
# For the rest of the process and of the machine.
RESERVE_BYTES = 256 * 2**20
CGROUP = Path("/sys/fs/cgroup")


def index_bytes(records: int, dimension: int) -> int:
    """Return the memory that an index of `records` vectors takes, in bytes."""
    return records * (4 * dimension + LINKS_BYTES + LABEL_BYTES + OVERHEAD_BYTES)


def needed_bytes(persist_dir: Path, collection: str) -> int:
    """Return the memory that a collection's index will take, from the records and the dimension in SQLite.

    0 if it is empty. Call `workload.corpus.chroma.survey` first.
    """
    with closing(connect(persist_dir)) as database:
        dimension, records = database.execute(
            "SELECT c.dimension, (SELECT count(*) FROM embeddings e JOIN segments s ON e.segment_id = s.id "
            "WHERE s.collection = c.id) FROM collections c WHERE c.name = ?",
            (collection,),
        ).fetchone()
    return index_bytes(records, dimension) if dimension else 0


def available_bytes(cgroup: Path = CGROUP) -> int:
    """Return the free memory in bytes: the machine's, or the container's if that is less.

    Cached files count as free, because the kernel gives them up on demand.
    """
    available = int(psutil.virtual_memory().available)
    try:
        limit, used, stat = ((cgroup / f"memory.{name}").read_text() for name in ("max", "current", "stat"))
    except OSError:
        return available
    if limit.strip() == "max":
        return available
    cached = dict(line.split() for line in stat.splitlines()).get("inactive_file", 0)
    return min(available, int(limit) - int(used) + int(cached))


def require_memory(
    persist_dir: Path, collection: str, needed: int, available: Callable[[], int] = available_bytes
) -> None:
    """Refuse an index that does not fit in memory: the kernel would kill the process in the middle of a run.

    Raises:
        MissingPartError: less memory is free than `needed` bytes and a reserve; the message names both.
    """
    if needed + RESERVE_BYTES > (free := available()):
        gib = [f"{value / 2**30:.1f} GiB" for value in (needed + RESERVE_BYTES, max(free, 0))]
        raise MissingPartError(
            f"Collection {collection!r} in {str(persist_dir)!r}: expected {gib[0]} of free memory for its vector "
            f"index, found {gib[1]}.",
            "Free some memory, use a larger machine, or index fewer passages.",
        )
