"""Prompts come to a pipeline in bursts: the token budget that evens them out, and the bubbles that they leave.

A pipeline of S stages runs m = min(S, B) micro-batches of b of its B sequences.  A step of a micro-batch holds a token
of each sequence and, now and then, a chunk of a prompt.  Steps of unlike length leave bubbles: a long one takes its
time on every stage, and the short ones behind it wait (Agrawal et al., "Sarathi-Serve", OSDI 2024, section 3.3).  A
smaller token budget makes steps more alike, at the price of more steps to a prompt.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hexdsl.costs.stage import Array

LEAST_STEP_TOKENS, STEP_ROUNDING = 512, 64
"""Budgets below the first are not chosen: a prompt would need too many steps, and small products are inefficient."""

ROOM = 1.25
"""Budget over mean need: a share of 1/1.25 of the budgets is used, so that prompts seldom queue for it."""


def step_budget(depth: int, sequences: ArrayLike, prompt_tokens: ArrayLike, most: float) -> Array:
    """Tokens that a step may hold, at most `most`: as few as serve the mean step with some room.

    `sequences` decode in a micro-batch and `prompt_tokens` of prompts come to it in a step on average.  One stage has
    no bubbles and takes as many tokens as it may.
    """
    need = ROOM * (np.asarray(sequences, dtype=np.float64) + np.asarray(prompt_tokens))
    if depth == 1:
        return np.full_like(need, most)
    rounded = np.ceil(need / STEP_ROUNDING) * STEP_ROUNDING
    return np.asarray(np.minimum(most, np.maximum(LEAST_STEP_TOKENS, rounded)))


def chunks_of(prompt: ArrayLike, sequences: ArrayLike, budget: ArrayLike) -> Array:
    """Steps that a prompt of so many tokens takes beside decoding sequences."""
    room = np.maximum(1.0, np.asarray(budget) - np.asarray(sequences))
    return np.asarray(np.ceil(np.asarray(prompt) / room))


class Burst(NamedTuple):
    """What prompts that come in bursts do to the time from one step to the next, beside its mean."""

    prompts: Array
    """Factor on the time of prompts, at least 1."""
    head: Array
    """Factor on what the last stage has to do beyond its layers, at most 1: others' bursts hide it in part."""


def burst(lanes: ArrayLike, sequences: ArrayLike, prompts: ArrayLike, prompt: ArrayLike, budget: ArrayLike) -> Burst:
    """How prompts that come unevenly hold up a pipeline of so many micro-batches.

    A step holds chunks of u = min(s, room) tokens of prompts of s tokens, r of them on average: a Poisson number, taken
    as none or r/q, with q = max(1 - exp(-r), r u/room) the share of steps that hold any.  Stages that work in step all
    wait for the longest of m steps.  One of them holds prompts with 1 - (1 - q)^m; over the mean, that is the factor
    (1 - (1 - q)^m) / q.  The output head counts where the last stage's own step holds prompts, or none does:
    q + (1 - q)^m.  Against the recursion of a closed tandem line it errs by 0 to +12 % for m = 2 to 8.
    """
    room = np.maximum(1.0, np.asarray(budget, dtype=np.float64) - np.asarray(sequences))
    s = np.asarray(prompt, dtype=np.float64)
    units = np.asarray(prompts) * s / np.minimum(s, room)
    share = np.clip(np.maximum(-np.expm1(-units), np.asarray(prompts) * s / room), 1e-12, 1.0)
    log_none = np.asarray(lanes) * np.log1p(-np.minimum(share, 1 - 1e-15))
    return Burst(np.asarray(-np.expm1(log_none) / share), np.asarray(np.minimum(1.0, share + np.exp(log_none))))
