"""Arrival times from distributions, in seconds from 0 on; the mean gap is 1/rate."""

from __future__ import annotations

from math import gamma as gamma_function

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Times = NDArray[np.float64]


def poisson(rate: float, count: int, rng: Generator) -> Times:
    """Independent arrivals."""
    return np.cumsum(rng.exponential(1 / rate, count))


def gamma(rate: float, cv: float, count: int, rng: Generator) -> Times:
    """Gaps from a gamma distribution; `cv` is their standard deviation over their mean."""
    shape = 1 / cv**2
    return np.cumsum(rng.gamma(shape, 1 / (rate * shape), count))


def weibull(rate: float, shape: float, count: int, rng: Generator) -> Times:
    """Gaps from a Weibull distribution; a shape below 1 is burstier than Poisson."""
    scale = 1 / (rate * gamma_function(1 + 1 / shape))
    return np.cumsum(scale * rng.weibull(shape, count))


def constant(rate: float, count: int) -> Times:
    """Equal gaps."""
    return np.arange(1, count + 1) / rate
