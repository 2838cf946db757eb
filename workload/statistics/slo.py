"""Service level objectives: the most seconds that a question and each of its calls may take to count as good.

Goodput is the number of good questions, as a share and per second. Source: Zhong et al. 2024, "DistServe",
arXiv:2401.09670; `vllm bench serve --goodput` counts single requests in the same way.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

CallObjective = Literal["ttft", "itl", "tpot", "e2e"]
Objective = Literal[CallObjective, "question"]


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return {name.strip(): limit for name, _, limit in (part.partition("=") for part in value.split(","))}


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Slo = Annotated[dict[Objective, Seconds], BeforeValidator(_parsed)]
"""Seconds by objective, as typed: `ttft=0.5,itl=0.05,question=10`. Empty for no objectives."""
