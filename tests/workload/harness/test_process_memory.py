"""The process's own memory, observed in a separate process, since a setting of malloc cannot be undone."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

COUNT = """
import ctypes, sys, threading
from pathlib import Path
from workload.harness.process_memory import share_one_arena

if sys.argv[1] == "shared":
    share_one_arena()
met = threading.Barrier(5)

def allocate():
    kept = bytearray(10_000)
    met.wait()
    met.wait()

for _ in range(4):
    threading.Thread(target=allocate).start()
met.wait()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, stream)
libc.fclose(stream)
met.wait()
print(Path(sys.argv[2]).read_text().count("<heap nr"))
"""


@pytest.mark.parametrize(("how", "is_one"), [("shared", True), ("as usual", False)])
def test_threads_share_one_arena(how: str, is_one: bool, tmp_path: Path) -> None:
    """Half-empty arenas of threads were most of what a soak grew by; what is used had not grown."""
    argv = [sys.executable, "-c", COUNT, how, str(tmp_path / "arenas.xml")]
    counted = int(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    assert (counted == 1) == is_one
