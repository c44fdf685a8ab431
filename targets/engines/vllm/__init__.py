"""`vllm`: stock vLLM 0.32, an API server for each replica, with hexc's router in front."""

from hexdsl.targets.engines.vllm.lower import lower
from hexdsl.targets.engines.vllm.supports import supports

__all__ = ["lower", "supports"]
