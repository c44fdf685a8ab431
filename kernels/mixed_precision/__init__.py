"""Mixed precision: products with quantised weights, and attention over quantised keys and values.

Weights come from `quantise_weight` or from a checkpoint (`import_layers`) as `Codes`, are packed once by `pack`, and
are used by `weight_only_linear`; `eight_bit_linear` rounds activations as well.  Keys and values are written into a
`KvSide` by `write_kv` and read by `prefill` and `decode`.
"""

from hexdsl.kernels.mixed_precision.attention import decode, prefill
from hexdsl.kernels.mixed_precision.checkpoint import import_layers
from hexdsl.kernels.mixed_precision.eight_bit import EightBitWeight, eight_bit_linear, eight_bit_weight
from hexdsl.kernels.mixed_precision.formats import FORMATS, Codes, PackedWeight
from hexdsl.kernels.mixed_precision.kv_format import KV_FORMATS, KvSide, allocate_side
from hexdsl.kernels.mixed_precision.kv_write import write_kv
from hexdsl.kernels.mixed_precision.layout import pack, unpack
from hexdsl.kernels.mixed_precision.linear import weight_only_linear
from hexdsl.kernels.mixed_precision.quantise import quantise_weight

__all__ = [
    "FORMATS",
    "KV_FORMATS",
    "Codes",
    "EightBitWeight",
    "KvSide",
    "PackedWeight",
    "allocate_side",
    "decode",
    "eight_bit_linear",
    "eight_bit_weight",
    "import_layers",
    "pack",
    "prefill",
    "quantise_weight",
    "unpack",
    "weight_only_linear",
    "write_kv",
]
