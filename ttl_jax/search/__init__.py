"""Truncation search: which unit to cut at (or freeze to, or slim from), tried as seldom as possible."""

from ttl_jax.search.bayesian import bayesian_plan
from ttl_jax.search.finalists import Terms, rivals
from ttl_jax.search.halving import halving, halving_plan
from ttl_jax.search.pareto import pareto, penalised
from ttl_jax.search.protocol import Plan, Request, SearchResult, Trial, follow
from ttl_jax.search.two_stage import exhaustive, exhaustive_plan, two_stage, two_stage_plan

__all__ = [
    "Plan", "Request", "SearchResult", "Terms", "Trial", "bayesian_plan", "exhaustive", "exhaustive_plan",
    "follow", "halving", "halving_plan", "pareto", "penalised", "rivals", "two_stage", "two_stage_plan",
]  # fmt: skip
