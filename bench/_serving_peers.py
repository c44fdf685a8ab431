"""Planning cases of aiconfigurator (cases in the form of aic_cases.json): same model, GPUs, lengths and limits.

Two judges.  hexc's cost model prices hexc's plan and the peer's best layouts alike, the peer's at the batch that serves
the most within the limits by that model (of its prefill pools only the rate is judged, at full load, which favours the
peer).  The peer's own table (aic_agg_pareto.csv beside the cases) gives what the peer predicts for hexc's layouts
within the limits, where it lists them.  The specs name the phases, so that prefill and decode may lie apart; without
those lines, and with the peer's best layout pinned, the plan must not be better.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from _serving_plans import IMPORTS, MAX_BATCH, PHASES, Judge, Outcome, nodes, planned, planned_once, runs_of
from _serving_rows import Job, Row, bar, listed

from hexdsl.api import load_text
from hexdsl.costs.serving import Load

GPUS = {
    "h100_sxm": "H100", "h200_sxm": "H200", "a100_sxm": "A100", "a100_pcie": "A100_PCIE", "l40s": "L40S",
    "b200_sxm": "B200", "gb200": "GB200", "h100_pcie": "H100_PCIE", "rtx_pro_6000": "RTX_PRO_6000",
}  # fmt: skip
MODELS = {
    "Meta-Llama-3.1-8B": "llama8b", "Meta-Llama-3.1-70B": "llama70b", "Meta-Llama-3.1-405B": "llama405b",
    "Qwen3-8B": "qwen3_8b", "Qwen3-14B": "qwen3_14b", "Qwen3-32B": "qwen3_32b",
    "Qwen3-30B-A3B": "qwen3_30b_a3b", "Qwen3-235B-A22B": "qwen3_235b_a22b", "DeepSeek-V3": "deepseek_v3",
}  # fmt: skip

NIC = "400Gb/s"


@dataclass(frozen=True)
class Question:
    """A case as a spec: GPUs by group, limits in seconds."""

    case: Mapping[str, Any]

    @property
    def groups(self) -> dict[str, tuple[str, int]]:
        """Group to GPU and count.  With another kind for decoding, as many of each as the peer's best plan takes."""
        case, extra = self.case, list(self.case["extra"])
        gpu, total = GPUS[case["system"]], case["total_gpus"]
        if "--decode-system" not in extra:
            return {"a": (gpu, total)}
        other = GPUS[extra[extra.index("--decode-system") + 1]]
        best = max(case["disagg"], key=lambda p: p["tokens/s/gpu_cluster"])
        decode = best["(d)workers"] * best["(d)tp"] * best["(d)pp"]
        return {"a": (gpu, total - decode), "b": (other, decode)}

    @property
    def pinned(self) -> str:
        """Lines that pin the phases of the peer's best plan; none where it has no disaggregated one."""
        if not self.case.get("disagg"):
            return ""
        best = max(self.case["disagg"], key=lambda p: p["tokens/s/gpu_cluster"])
        degrees = ((phase, best[f"({phase[0]})tp"], best[f"({phase[0]})pp"]) for phase in ("prefill", "decode"))
        return "".join(f"  phase {phase} {{ tp = {tp}, pp = {pp} }}\n" for phase, tp, pp in degrees)

    @property
    def limits(self) -> tuple[float, float]:
        return self.case["slo_ttft_ms"] / 1e3, self.case["slo_tpot_ms"] / 1e3

    @property
    def text(self) -> str:
        case = self.case
        parts = [nodes(g, -(-n // 8), min(8, n), gpu, (f"nic = {NIC}",)) for g, (gpu, n) in self.groups.items() if n]
        if len(parts) > 1:
            parts.append(f"  a <-> b {{ bandwidth = {NIC}, latency = 20us }}\n")
        model = MODELS[case["model"].split("/")[-1]]
        return (
            f"{IMPORTS}cluster c {{\n{''.join(parts)}}}\nmodel m : {model} {{ weights = bf16 }}\n"
            f"workload w {{ prompt = {case['isl']}tok, output = {case['osl']}tok }}\n"
            f"serve s {{\n  model = m, on = c, workload = w\n  max_batch = {MAX_BATCH}\n{PHASES}"
            f"  mean(ttft) <= {case['slo_ttft_ms']}ms\n  mean(tpot) <= {case['slo_tpot_ms']}ms\n"
            "  maximize throughput\n}\n"
        )


def jobs(data: Mapping[str, Any], table: Path) -> Iterator[Job]:
    """A job a case."""
    for case in data["cases"]:
        yield partial(listed, _rows, case, table)


def _rows(case: Mapping[str, Any], table: Path) -> Iterator[Row]:
    """The rows of a case, or that its model or GPU is not in hexc's catalog."""
    if case["system"] not in GPUS or case["model"].split("/")[-1] not in MODELS:
        yield Row("e", case["id"], "not in hexc's catalog", case["model"], case["system"], "", "")
        return
    yield from _case_rows(case, _points(table))


def _points(table: Path) -> list[dict[str, str]]:
    if not table.exists():
        return []
    with table.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _case_rows(case: Mapping[str, Any], points: Sequence[Mapping[str, str]]) -> Iterator[Row]:
    question = Question(case)
    outcome = planned(question.text)
    total = case["total_gpus"]
    ours = outcome.figure("throughput") / total
    name = f"{case['id']} {case['model'].split('/')[-1]} {total} {case['system']}"
    judge = Judge.of(load_text(question.text, "case.hex"), Load(float(case["isl"]), float(case["osl"])))
    theirs, layout = _best_theirs(question, judge)
    what = f"tok/s/GPU: {outcome.layout}"
    whose = f"{case.get('peer', 'peer')}: {layout}"
    met = bar(outcome.plan is not None and ours >= theirs * (1 - 1e-3)) if theirs or outcome.plan else ""
    bound = None if outcome.bound is None else outcome.bound / total
    yield Row("e", name, what, ours, theirs, whose, "hexc's cost model", outcome.spent, met, bound=bound)
    yield from _other_searches(name, question, outcome)
    yield _slo_row(name, question, outcome)
    yield _time_row(name, case, outcome)
    yield _by_peer(name, case, outcome, points)


def _other_searches(name: str, question: Question, outcome: Outcome) -> Iterator[Row]:
    """What the planner finds where it has less to choose from; only plans that hold in the simulation count.

    Of the peer's layout the first search alone is taken, without the margins that a broken rule would bring.
    """
    others = {"phases not named": planned(question.text.replace(PHASES, ""))}
    if pinned := question.pinned:
        others["peer's layout pinned"] = planned_once(question.text.replace(PHASES, pinned))
    for whose, found in others.items():
        total = question.case["total_gpus"]
        ours, theirs = (o.figure("throughput") / total if o.holds else 0.0 for o in (outcome, found))
        broken = "" if found.plan is None or found.holds else " (breaks a limit)"
        what = f"tok/s/GPU within limits: {found.layout}{broken}"
        met = bar(ours >= theirs * (1 - 1e-3))
        yield Row("e", name, what, ours, theirs, f"hexc, {whose}", "cost model, held by simulation", found.spent, met)


def _slo_row(name: str, question: Question, outcome: Outcome) -> Row:
    case = question.case
    theirs = [*case.get("agg", ()), *case.get("disagg", ())]
    broken = [p for p in theirs if p["ttft"] > case["slo_ttft_ms"] or p["tpot"] > case["slo_tpot_ms"]]
    text = "no plan" if case["rc"] or not theirs else f"{len(broken)} of {len(theirs)} plans break a limit"
    if outcome.plan is None:
        return Row("e", name, "limits hold", outcome.why, text, "peer", "each planner's own figures")
    ttft, tpot = (outcome.simulated(f"mean({m})").mean for m in ("ttft", "tpot"))
    figures = f"ttft {1e3 * ttft:.0f} ms, tpot {1e3 * tpot:.1f} ms simulated"
    return Row(
        "e",
        name,
        "limits hold",
        figures,
        text,
        "peer",
        "prediction and simulation",
        met=bar(outcome.holds),
        runs=runs_of(outcome.plan),
    )


def _time_row(name: str, case: Mapping[str, Any], outcome: Outcome) -> Row:
    used, theirs = outcome.spent.cpu_s, case["seconds"]
    whose, met = "peer (wall), 2 CPUs", bar(used < theirs)
    return Row("e", name, "planning cpu s", used, theirs, whose, "this machine", outcome.spent, met)


def _best_theirs(question: Question, judge: Judge) -> tuple[float, str]:
    """The peer's best layout under hexc's cost model, per GPU of the whole inventory."""
    case, found = question.case, [(0.0, "no plan")]
    total = case["total_gpus"]
    for plan in case.get("agg", ()):
        batch, rate = judge.legal("a", plan["tp"], plan["pp"], *question.limits)
        copies = question.groups["a"][1] // plan["num_total_gpus"]
        found.append((copies * rate * case["osl"] / total, f"tp{plan['tp']} pp{plan['pp']} batch {batch}"))
    decode = "b" if "b" in question.groups else "a"
    for plan in case.get("disagg", ()):
        p = plan["(p)workers"] * judge.prefill_rate("a", plan["(p)tp"], plan["(p)pp"])
        d = plan["(d)workers"] * judge.decode_rate(decode, plan["(d)tp"], plan["(d)pp"], question.limits[1])
        copies = total // plan["num_total_gpus"]
        text = f"{plan['(p)workers']} prefill tp{plan['(p)tp']} + {plan['(d)workers']} decode tp{plan['(d)tp']}"
        found.append((copies * min(p, d) * case["osl"] / total, text))
    return max(found)


def _by_peer(name: str, case: Mapping[str, Any], outcome: Outcome, points: Sequence[Mapping[str, str]]) -> Row:
    """hexc's plan by the peer's numbers, where all its replicas are layouts that the peer's table lists."""
    plans = [*case.get("agg", ()), *case.get("disagg", ())]
    legal = [p for p in plans if p["ttft"] <= case["slo_ttft_ms"] and p["tpot"] <= case["slo_tpot_ms"]]
    theirs = max((p["tokens/s/gpu_cluster"] for p in legal), default=0.0)
    mine = _listed(case, outcome, points)
    if mine is None:
        return Row("e", name, "tok/s/GPU", "layout not in the peer's table", theirs, "peer", "peer's numbers")
    return Row("e", name, "tok/s/GPU", mine, theirs, "peer", "peer's numbers", met=bar(mine >= theirs * 0.999))


def _listed(case: Mapping[str, Any], outcome: Outcome, points: Sequence[Mapping[str, str]]) -> float | None:
    if outcome.plan is None:
        return None
    total = 0.0
    for replica in outcome.plan.replicas:
        degrees = {len(s.devices) for s in replica.stages}
        fits = [
            float(p["tok_s_gpu"])
            for p in points
            if p["case"] == case["id"]
            and degrees == {int(p["tp"])}
            and int(p["pp"]) == len(replica.stages)
            and float(p["ttft_ms"]) <= case["slo_ttft_ms"]
            and float(p["tpot_ms"]) <= case["slo_tpot_ms"]
        ]
        if not fits or getattr(replica, "role", "both") != "both":
            return None
        total += max(fits) * sum(len(s.devices) for s in replica.stages)
    return total / case["total_gpus"]
