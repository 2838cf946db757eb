"""A deterministic generator of multi-hop questions over an invented world, in HotpotQA's format."""

from workload.corpus.synthetic.generator import generate
from workload.corpus.synthetic.world import build_world

__all__ = ["build_world", "generate"]
