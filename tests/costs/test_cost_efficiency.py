"""Which measured kind a GPU's name means, and what an unknown one gets."""

from __future__ import annotations

import pytest

from hexdsl.costs.efficiency import efficiency_of, kind_of, weakest


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("H100", "h100"),
        ("NVIDIA H100 80GB SXM5", "h100"),
        ("h100_sxm", "h100"),
        ("H200-141G", "h200"),
        ("GH200", None),
        ("A100_40G", "a100"),
        ("L4", "l4"),
        ("L40", None),
        ("L40S", "l40s"),
        ("RTX PRO 6000 Blackwell", "rtx pro 6000"),
        ("RTXPRO6000", "rtx pro 6000"),
        ("RTX4090", "rtx 4090"),
        ("NVIDIA GeForce RTX 4090", "rtx 4090"),
        ("T4", "t4"),
        ("T400", None),
        ("laptop", None),
    ],
)
def test_kind_by_name(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


def test_unknown_gpus_get_modelled_shares_amid_the_measured_ones() -> None:
    unknown = efficiency_of("Accelerator X")
    assert unknown.provenance == "modelled"
    measured = [efficiency_of(name) for name in ("A100", "H100", "H200", "L40S", "RTX PRO 6000")]
    assert all(e.provenance == "measured" for e in measured)
    for share in (lambda e: e.memory, lambda e: e.kv, lambda e: e.gemm_at("bf16")[0], lambda e: e.attention_at(4096)):
        assert min(map(share, measured)) < share(unknown) < max(map(share, measured))


def test_four_bit_weights_are_read_less_efficiently_and_only_where_measured_is_that_said() -> None:
    for name, trust in (("RTX PRO 6000", "measured"), ("H100", "modelled"), ("Accelerator X", "modelled")):
        eff = efficiency_of(name)
        share, provenance = eff.weights_at("fp4")
        assert 0.5 * eff.memory < share < eff.memory
        assert provenance == trust
        assert eff.weights_at("fp8") == (eff.memory, eff.provenance)


def test_narrow_formats_do_not_deliver_their_nominal_factor() -> None:
    for name in ("H100", "H200", "L40S", "RTX PRO 6000", "Accelerator X"):
        eff = efficiency_of(name)
        assert 2 * eff.gemm_at("fp8")[0] < 2 * eff.gemm_at("bf16")[0]
        assert 4 * eff.gemm_at("fp4")[0] < 4 * eff.gemm_at("bf16")[0]


def test_a_format_that_was_not_measured_is_scaled_and_says_so() -> None:
    share, provenance = efficiency_of("A100").gemm_at("int8")
    assert provenance == "modelled"
    assert share == pytest.approx(0.55 * 0.857 / 0.75, rel=0.01)


def test_attention_share_rises_with_the_prompt_and_stays_in_the_table() -> None:
    shares = efficiency_of("H100").attention_at([1, 1024, 2000, 4096, 10**6])
    assert list(shares) == sorted(shares)
    assert shares[0] == shares[1] == 0.245
    assert shares[-1] == 0.672


def test_weakest_provenance_wins() -> None:
    assert weakest("measured", "given", "modelled") == "modelled"
    assert weakest("given", "profiled") == "profiled"
