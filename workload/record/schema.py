"""The tables of a journal, and their version."""

from __future__ import annotations

import sqlite3
from functools import cache

from workload.record.integrity import add_checksums

SCHEMA_VERSION = 2
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE question (
  id INTEGER PRIMARY KEY, arm TEXT NOT NULL, block INTEGER NOT NULL, phase TEXT NOT NULL, segment INTEGER NOT NULL,
  question_id TEXT NOT NULL, type TEXT NOT NULL, attempt INTEGER NOT NULL, worker TEXT NOT NULL,
  intended_at REAL NOT NULL, started_at REAL NOT NULL, duration_seconds REAL, outcome TEXT, reason TEXT,
  termination TEXT, hops INTEGER, digest TEXT, answer TEXT, trajectory TEXT,
  answer_em REAL, answer_f1 REAL, facts_em REAL, facts_f1 REAL, joint_f1 REAL) STRICT;
CREATE TABLE node_visit (
  question INTEGER NOT NULL REFERENCES question(id), node TEXT NOT NULL, hop INTEGER NOT NULL,
  started_at REAL NOT NULL, duration_seconds REAL NOT NULL, outcome TEXT NOT NULL) STRICT;
CREATE TABLE stage (
  question INTEGER NOT NULL REFERENCES question(id), stage TEXT NOT NULL, hop INTEGER NOT NULL,
  started_at REAL NOT NULL, duration_seconds REAL NOT NULL) STRICT;
CREATE TABLE prefetch (
  question INTEGER NOT NULL REFERENCES question(id), hop INTEGER NOT NULL, outcome TEXT NOT NULL,
  started_at REAL NOT NULL, duration_seconds REAL NOT NULL, waited_seconds REAL NOT NULL) STRICT;
CREATE TABLE llm_call (
  id INTEGER PRIMARY KEY, question INTEGER NOT NULL REFERENCES question(id), node TEXT NOT NULL, hop INTEGER NOT NULL,
  retry INTEGER NOT NULL DEFAULT 0,
  started_at REAL NOT NULL, duration_seconds REAL NOT NULL, ttft_seconds REAL, outcome TEXT NOT NULL, reason TEXT,
  prompt_tokens INTEGER, cached_tokens INTEGER, reusable_tokens INTEGER, completion_tokens INTEGER,
  finish_reason TEXT, block_hashes BLOB) STRICT;
CREATE TABLE call_text (
  call INTEGER PRIMARY KEY REFERENCES llm_call(id), messages TEXT NOT NULL, reply TEXT NOT NULL,
  prompt_ids BLOB NOT NULL, output_ids BLOB NOT NULL) STRICT;
CREATE TABLE token_fate (
  call INTEGER PRIMARY KEY REFERENCES llm_call(id), engine TEXT, hit INTEGER NOT NULL, tail INTEGER NOT NULL,
  cold INTEGER NOT NULL, elsewhere INTEGER NOT NULL, evicted INTEGER NOT NULL, reset INTEGER NOT NULL,
  flight INTEGER NOT NULL, salt INTEGER NOT NULL, behind INTEGER NOT NULL, unknown INTEGER NOT NULL,
  bound INTEGER, in_fleet INTEGER, on_engine INTEGER) STRICT;
CREATE TABLE token_gap (
  call INTEGER PRIMARY KEY REFERENCES llm_call(id), microseconds BLOB NOT NULL) STRICT;
CREATE TABLE segment (
  id INTEGER PRIMARY KEY, started_at REAL NOT NULL, ended_at REAL, first_question INTEGER NOT NULL,
  first_call INTEGER NOT NULL, dropped INTEGER NOT NULL, paused INTEGER NOT NULL, summary TEXT) STRICT;
CREATE TABLE sample (
  at REAL NOT NULL, segment INTEGER NOT NULL, in_flight INTEGER NOT NULL, level INTEGER NOT NULL,
  is_held INTEGER NOT NULL, runner_bytes INTEGER, engine_bytes INTEGER) STRICT;
CREATE TABLE action (
  at REAL NOT NULL, action TEXT NOT NULL, alert TEXT NOT NULL, status TEXT NOT NULL, fingerprint TEXT, starts_at TEXT,
  detail TEXT NOT NULL) STRICT;
"""
TABLES = (
    *("question", "node_visit", "stage", "prefetch", "llm_call", "call_text", "token_fate", "token_gap"),
    *("segment", "sample", "action"),
)
# Added without a new version: an older journal lacks these tables.
LATER = frozenset({"prefetch", "token_fate", "token_gap"})


@cache
def pristine() -> sqlite3.Connection:
    """Return a new journal in memory, with which others are compared."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.executescript(SCHEMA)
    add_checksums(connection)
    return connection
