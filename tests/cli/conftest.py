"""The command line as a user sees it: exit code, stdout, stderr."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_harness import Hexc, Said

from hexdsl.cli import main


@pytest.fixture
def hexc(capsys: pytest.CaptureFixture[str]) -> Hexc:
    """Runs a command in this process."""

    def run(*argv: str | Path) -> Said:
        capsys.readouterr()
        code = main([str(a) for a in argv])
        out, err = capsys.readouterr()
        return Said(code, out, err)

    return run


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A spec that can be planned: two small GPUs, one parameter, rules that hold."""
    path = tmp_path / "small.hex"
    path.write_text(SMALL)
    return path


SMALL = """\
import "std/models.hex"

param rate: Rate = 0.1req/s
param slowest: Time = 1s

gpu core {
  memory    = 512MB
  reserve   = 32MB
  bandwidth = 10GB/s
  fp32      = 60GFLOP/s
}

cluster laptop {
  nodes here { gpus = 2 * core, interconnect = 10GB/s }
}

model smollm : smollm2_135m {
  weights = fp32
  path    = "models/smollm"
}

workload chat {
  arrivals = poisson(rate)
  prompt   = lognormal(median = 60, p95 = 200)
  output   = lognormal(median = 60, p95 = 200)
}

serve small {
  model    = smollm
  on       = laptop
  workload = chat
  max_batch = 8
  context  = 1024tok

  mean(tpot) <= slowest
  maximize throughput

  target torch { launcher = local }
}
"""
