"""`torch`: hexc's own serving engine on torch.distributed, from CPUs (gloo) to GPUs (NCCL)."""

from hexdsl.targets.engines.torch.lower import lower
from hexdsl.targets.engines.torch.supports import supports

__all__ = ["lower", "supports"]
