"""Architectures and GPUs that the cost tests share."""

from __future__ import annotations

from hexdsl.costs.arch import Arch, Experts, Latent
from hexdsl.costs.gpu import Gpu, Link

LLAMA_8B = Arch(32, 4096, 32, 8, 128, 14336, 128256)
LLAMA_70B = Arch(80, 8192, 64, 8, 128, 28672, 128256)
QWEN_7B = Arch(28, 3584, 28, 4, 128, 18944, 152064)
QWEN_HALF_B = Arch(24, 896, 14, 2, 64, 4864, 151936, tied=True)
MIXTRAL = Arch(32, 4096, 32, 8, 128, 14336, 32000, experts=Experts(8, 2, 14336))
DEEPSEEK_V3 = Arch(
    61,
    7168,
    128,
    128,
    128,
    18432,
    129280,
    experts=Experts(256, 8, 2048, shared=1, dense_layers=3),
    latent=Latent(512, 64, 128, q_rank=1536),
)

A100 = Gpu("NVIDIA A100 80GB SXM4", 80e9, 2.039e12, {"bf16": 312e12, "int8": 624e12})
H100 = Gpu("NVIDIA H100 80GB SXM5", 80e9, 3.35e12, {"bf16": 989e12, "fp8": 1978e12})
L40S = Gpu("L40S", 48e9, 864e9, {"bf16": 362e12, "fp8": 733e12}, usable_bytes=45e9)
UNKNOWN = Gpu("Accelerator X", 64e9, 2e12, {"bf16": 400e12, "fp8": 800e12})
CPU = Gpu("laptop", 4e9, 10e9, {"fp32": 100e9}, reserve_bytes=0.2e9)

NVLINK = Link(450e9)
PCIE4 = Link(32e9)
ETHERNET = Link(3.125e9, 20e-6)
