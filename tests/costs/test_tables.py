"""Tables of measured operators: what is read, what is refused, and the profile that they come to."""

from __future__ import annotations

import importlib.util

import pytest

from hexdsl.costs.tables import Measured, profile_of, read_table, write_table
from hexdsl.ir.diagnostic import UsageError

HEADER = "operator,dtype,m,n,k,batch,heads,kv_heads,head_dim,tokens,bytes,gpus,seconds"


def gemm(m: int, flop_per_s: float, n: int = 8192, k: int = 8192, dtype: str = "bf16") -> Measured:
    return Measured("gemm", dtype, (m, n, k), 2.0 * m * n * k / flop_per_s)


def test_rates_come_back_out_of_the_seconds() -> None:
    reads = [Measured("gemm", "bf16", (1, 8192, 8192), 2 * 8192 * 8192 / 2.5e12)]
    products = [gemm(m, rate) for m, rate in ((256, 4e14), (2048, 7e14), (2048, 8e14), (2048, 6e14))]
    prompts = [
        Measured("attention_prefill", "bf16", (1, 32, 8, 128, s), 2 * 32 * 128 * s**2 / 3e14) for s in (1024, 4096)
    ]
    cache = 2.0 * 64 * 8 * 128 * 8192 * 2
    decode = [Measured("attention_decode", "bf16", (64, 32, 8, 128, 8192), cache / 2e12)]
    copies = [Measured("memory_copy", "", (1 << 30,), 2 * (1 << 30) / 2.8e12)]
    made = profile_of([*reads, *products, *prompts, *decode, *copies], "GPU", "test")
    assert made.gemm["bf16"].m == (1, 256, 2048)
    assert made.gemm["bf16"].flop_per_s[1:] == pytest.approx((4e14, 7e14)), "the median of each number of rows"
    assert made.weights_bytes_per_s == pytest.approx(2.5e12)
    assert made.attention is not None
    assert made.attention.flop_per_s == pytest.approx((3e14, 3e14))
    assert made.kv_bytes_per_s == pytest.approx(2e12)
    assert made.copy_bytes_per_s == pytest.approx(2.8e12)


def test_the_line_of_an_all_reduce() -> None:
    rows = [Measured("all_reduce", "", (4, size), 2e-5 + size * 1.5 / 3e11) for size in (1024, 1 << 20, 1 << 27)]
    made = profile_of(rows, "GPU", "test").all_reduce
    assert made is not None
    assert made.gpus == (4,)
    assert made.start_s[0] == pytest.approx(2e-5, rel=1e-3)
    assert made.bus_bytes_per_s[0] == pytest.approx(3e11, rel=1e-3), "bytes cross the bus 2(n-1)/n times"


def test_small_weights_come_out_of_the_cache_and_do_not_count() -> None:
    cached = Measured("gemm", "bf16", (1, 1024, 1024), 2 * 1024 * 1024 / 9e12)
    real = Measured("gemm", "bf16", (1, 8192, 8192), 2 * 8192 * 8192 / 2e12)
    assert profile_of([cached, real], "GPU", "test").weights_bytes_per_s == pytest.approx(2e12)


def test_a_written_table_reads_the_same() -> None:
    rows = (gemm(16, 1e14), Measured("p2p", "", (4096,), 1e-5), Measured("all_reduce", "", (2, 4096), 2e-5))
    read = read_table(write_table(rows).encode(), "t.csv")
    assert [(r.operator, r.dtype, r.sizes) for r in read] == [(r.operator, r.dtype, r.sizes) for r in rows]
    assert [r.seconds for r in read] == pytest.approx([r.seconds for r in rows], rel=1e-5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        (HEADER, "no rows"),
        ("operator,m\ngemm,1", "line 1: there is no column `seconds`"),
        ("operator,operator,seconds\ngemm,gemm,1", "`operator` is there twice"),
        (f"{HEADER}\ngemm,bf16,1,2,3,,,,,,,,nan", "line 2: `seconds` is nan"),
        (f"{HEADER}\ngemm,bf16,1,2,3,,,,,,,,inf", "line 2: `seconds` is inf"),
        (f"{HEADER}\ngemm,bf16,1,2,3,,,,,,,,1\ngemm,bf16,1,2,3,,,,,,,,-1", "line 3: `seconds` is -1"),
        (f"{HEADER}\ngemm,bf16,1,2.5,3,,,,,,,,1", "`n` is 2.5, not a whole number"),
        (f"{HEADER}\ngemm,bf16,1,2,,,,,,,,,1", "`k` is empty"),
        (f"{HEADER}\ngem,bf16,1,2,3,,,,,,,,1", "`operator` is `gem`"),
        (f"{HEADER}\ngemm,bf17,1,2,3,,,,,,,,1", "`dtype` is `bf17`"),
        (f"{HEADER}\nall_reduce,,,,,,,,,,8,1,1", "all-reduce of one GPU"),
        (f"{HEADER}\ngemm,bf16,1,2,3,,,,,,,,1,9,9", "more values"),
        (f"{HEADER}\n\udcff".encode("utf-8", "surrogateescape"), "line 2: this is not UTF-8"),
    ],
)
def test_bad_tables_name_file_line_and_fix(text: str | bytes, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_table(text if isinstance(text, bytes) else text.encode(), "t.csv")
    (first, *_) = caught.value.diagnostics
    assert "`t.csv`" in first.message
    assert says in first.message
    assert first.help


def test_several_bad_rows_are_told_at_once() -> None:
    rows = "\n".join(f"gemm,bf16,1,2,3,,,,,,,,-{i}" for i in range(1, 40))
    with pytest.raises(UsageError) as caught:
        read_table(f"{HEADER}\n{rows}".encode(), "t.csv")
    assert len(caught.value.diagnostics) == 10


def test_a_table_without_what_the_costs_need_is_refused() -> None:
    with pytest.raises(UsageError, match="no operator"):
        profile_of([Measured("p2p", "", (4096,), 1e-5)], "GPU", "test")


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is not None, reason="pyarrow is installed")
def test_parquet_without_pyarrow_says_what_to_install() -> None:
    with pytest.raises(UsageError) as caught:
        read_table(b"PAR1", "t.parquet")
    assert "profiles" in (caught.value.diagnostics[0].help or "")


def test_parquet_holds_the_same_rows() -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"operator": ["gemm"], "dtype": ["bf16"], "m": [1], "n": [2], "k": [3], "seconds": [0.5]})
    out = arrow.BufferOutputStream()
    parquet.write_table(table, out)
    assert read_table(out.getvalue().to_pybytes(), "t.parquet") == (Measured("gemm", "bf16", (1, 2, 3), 0.5),)
