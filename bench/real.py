"""The long checks on real engines: the quickstart, greedy parity, failures in the middle, many requests at once.

    python bench/real.py [--only NAME]... [--case CHECKPOINT] [--json]

Parity is that of SmolLM2-135M-Instruct, or of the Hugging Face checkpoint --case, against transformers' `generate`; for
what runs on vLLM see _real_vllm.py.
A check that cannot run here is skipped with its reason; one that fails makes the exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from _checks import Skipped
from _real_vllm import CHECKS as VLLM
from _show import HEXC, ROOT, show

sys.path[:0] = [str(ROOT / "tests" / "runtime"), str(ROOT / "tests" / "targets")]

QUICKSTART_S, READY_S, REQUEST_S, GONE_S = 1800, 180, 120, 30
REQUESTS = 200
PROMPTS = ("The capital of France is", "def fibonacci(n):", "Once upon a time, in a small village,")
TOKENS = 24

SPEC = """
gpu core {{ memory = 512MB, reserve = 32MB, bandwidth = 10GB/s, fp32 = 60GFLOP/s }}
cluster here {{ nodes cpu {{ gpus = 2 * core, interconnect = 10GB/s }} }}
workload chat {{ prompt = 20tok, output = 20tok }}

model tiny {{
  family   = "LlamaForCausalLM"
  layers   = 4
  hidden   = 128
  heads    = 4
  kv_heads = 2
  head_dim = 32
  ffn      = 256
  vocab    = {vocab}
  weights  = fp32
  path     = "tiny"
}}

serve tiny_service {{
  model     = tiny
  on        = here
  workload  = chat
  context   = 512tok
  max_batch = 4
  pp == 2
  maximize throughput
  target torch {{ ports = {port}, max_queue = 32 }}
}}
"""


def quickstart(scratch: Path, case: Path | None) -> str:
    """scripts/quickstart, from set-up to the answer: two processes with different layers."""
    done = subprocess.run([ROOT / "scripts" / "quickstart"], capture_output=True, text=True, timeout=QUICKSTART_S)
    assert done.returncode == 0, done.stderr[-2000:]
    processes = {line.strip() for line in done.stderr.splitlines() if line.startswith("  layers ")}
    assert len({line.split("pid ")[1].split()[0] for line in processes}) == 2, done.stderr[-2000:]
    assert "Paris" in done.stdout, done.stdout[-2000:]
    return next(line for line in done.stderr.splitlines() if line.startswith("TTFT"))


def parity(parts: tuple[int, ...]) -> Callable[[Path, Path | None], str]:
    """A check that so many stages, with layers in these proportions, answer as `generate` does."""

    def check(scratch: Path, case: Path | None) -> str:
        from runtime_harness import engine_config, start_replica

        folder = checkpoint(case)
        stages = split(json.loads((folder / "config.json").read_text())["num_hidden_layers"], parts)
        wanted = generated(folder)
        config = engine_config(folder, stages, blocks=128, prefill_chunk_tokens=64)
        replica = start_replica(scratch, config)
        try:
            assert replica.texts(PROMPTS, TOKENS) == wanted
        finally:
            codes = replica.stop(signal.SIGTERM)
        assert codes == [0] * len(parts), codes
        return f"layers {', '.join(f'{a}..{b - 1}' for a, b, _ in stages)}; {len(PROMPTS)} prompts, {TOKENS} tokens"

    return check


def checkpoint(case: Path | None) -> Path:
    from hexdsl.runtime.demo import default_folder

    folder = case or default_folder()
    if not (folder / "config.json").is_file():
        raise Skipped(f"no checkpoint in {folder}; python -m hexdsl.runtime.demo fetches one")
    return folder.resolve()


def split(layers: int, parts: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Stages of TP 1 with layers in proportion, the last taking what is left."""
    ends = [layers * sum(parts[: i + 1]) // sum(parts) for i in range(len(parts))]
    return [(begin, end, 1) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def generated(folder: Path) -> list[str]:
    """What transformers itself says, in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    texts = []
    for prompt in PROMPTS:
        asked = tokenizer(prompt, return_tensors="pt")
        told = model.generate(
            input_ids=asked.input_ids, attention_mask=asked.attention_mask, max_new_tokens=TOKENS, do_sample=False
        )
        texts.append(tokenizer.decode(told[0, asked.input_ids.shape[1] :], skip_special_tokens=True))
    return texts


@contextlib.contextmanager
def service(scratch: Path) -> Iterator[tuple[Any, str, list[int]]]:
    """A bundle of a tiny model that was compiled from a spec and runs: it, its address, the pids of its ranks."""
    from launch_harness import Running, ports_in_a_row, wait_for

    from hexdsl.runtime.tiny import make

    vocab = json.loads((make(scratch / "tiny") / "config.json").read_text())["vocab_size"]
    port = ports_in_a_row(3)
    (scratch / "tiny.hex").write_text(SPEC.format(vocab=vocab, port=port))
    subprocess.run([HEXC, "compile", scratch / "tiny.hex", "-o", scratch / "out"], check=True, capture_output=True)
    running = Running(scratch / "out", sys.executable)
    try:
        wait_for(lambda: "ready: " in running.text or running.process.poll() is not None, lambda: running.text, READY_S)
        assert running.process.poll() is None, running.text
        url = f"http://127.0.0.1:{port}"
        yield running, url, ranks(url)
    finally:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGINT)
        running.ends()


def ranks(url: str) -> list[int]:
    import httpx

    health = httpx.get(f"{url}/health", trust_env=False, timeout=READY_S).json()
    return [rank["pid"] for r in health["replicas"] for stage in r["stages"] for rank in stage["ranks"]]


def drill(strike: Callable[[Any, list[int]], None], code: int | None) -> Callable[[Path, Path | None], str]:
    """A check that after a blow the launcher ends with a code and leaves no process behind."""

    def check(scratch: Path, case: Path | None) -> str:
        from launch_harness import wait_for

        with service(scratch) as (running, _, pids):
            begun = time.perf_counter()
            assert len(children(scratch)) > len(pids)
            strike(running, pids)
            ended = running.process.wait(READY_S)
            wait_for(lambda: not children(scratch), lambda: f"left running: {children(scratch)}", GONE_S)
        assert code is None or ended == code, f"exit code {ended}: {running.text[-2000:]}"
        return f"exit code {ended}, nothing left after {time.perf_counter() - begun:.1f} s"

    return check


def children(scratch: Path) -> list[str]:
    """What runs in a bundle below this folder: launch.sh works there, and all that it starts."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if Path(os.readlink(process / "cwd")).is_relative_to(scratch):
                found.append(f"{process.name} {(process / 'comm').read_text().strip()}")
    return found


def kill_rank(running: Any, pids: list[int]) -> None:
    os.kill(pids[-1], signal.SIGKILL)


def press_ctrl_c(running: Any, pids: list[int]) -> None:
    os.killpg(running.process.pid, signal.SIGINT)


def kill_launcher(running: Any, pids: list[int]) -> None:
    os.kill(running.process.pid, signal.SIGKILL)


def flood(scratch: Path, case: Path | None) -> str:
    """200 requests at once: each is answered or told to come back (429), none hangs."""
    import httpx

    with (
        service(scratch) as (_, url, _pids),
        httpx.Client(
            base_url=url, trust_env=False, timeout=REQUEST_S, limits=httpx.Limits(max_connections=REQUESTS)
        ) as client,
    ):

        def ask(number: int) -> int:
            body = {"prompt": f"words {number}", "max_tokens": 8, "temperature": 0}
            return client.post("/v1/completions", json=body).status_code

        with ThreadPoolExecutor(REQUESTS) as pool:
            codes = Counter(pool.map(ask, range(REQUESTS)))
        assert set(codes) <= {200, 429}, codes
        assert codes[200], codes
        assert ask(0) == 200
    return ", ".join(f"{n} x {code}" for code, n in sorted(codes.items()))


CHECKS: Mapping[str, Callable[[Path, Path | None], str]] = {
    "quickstart": quickstart,
    "parity-1": parity((1,)),
    "parity-2": parity((2, 1)),
    "parity-3": parity((1, 3, 2)),
    "rank-killed": drill(kill_rank, 5),
    "ctrl-c": drill(press_ctrl_c, 130),
    "launcher-killed": drill(kill_launcher, -signal.SIGKILL),
    "flood": flood,
    **VLLM,
}


def outcome(name: str, case: Path | None) -> dict[str, Any]:
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            result, detail = "ok", CHECKS[name](Path(scratch), case)
        except Skipped as reason:
            result, detail = "skipped", str(reason)
        except Exception as error:
            result, detail = "FAILED", f"{type(error).__name__}: {error}"
    return {"name": name, "result": result, "seconds": round(time.perf_counter() - begun, 1), "detail": detail}


def main() -> int:
    parser = argparse.ArgumentParser(description="the long checks on real engines")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--only", action="append", choices=CHECKS, metavar="NAME", help=", ".join(CHECKS))
    parser.add_argument("--case", type=Path, help="Hugging Face checkpoint for the parity checks")
    args = parser.parse_args()
    rows = [outcome(name, args.case) for name in args.only or CHECKS]
    show(args.json, ("name", "result", "seconds", "detail"), rows)
    return int(any(row["result"] == "FAILED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
