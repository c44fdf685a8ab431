"""On what a kernel runs."""

from __future__ import annotations

import os

import torch
from torch import Tensor
from triton.runtime import driver

INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"
"""Triton reads the variable when a kernel is defined, so it must be set before hexdsl.kernels is imported."""


def on_triton(x: Tensor) -> bool:
    """Whether the Triton kernel runs, and not the reference: on a GPU, or everywhere with Triton's interpreter."""
    return x.is_cuda or (INTERPRETED and x.device.type == "cpu")


def architecture(x: Tensor) -> int:
    """The compute capability as one number (90 for 9.0): of the tensor's GPU; of Hopper in the interpreter; for a meta
    tensor, of the target that kernels are being compiled for."""
    if x.is_cuda:
        major, minor = torch.cuda.get_device_capability(x.device)
        return 10 * major + minor
    return 90 if INTERPRETED else int(driver.active.get_current_target().arch)
