"""What one replica counts and times, as served at /metrics."""

from __future__ import annotations

from collections.abc import Callable

from hexdsl.runtime.metrics import Counter, Gauge, Histogram, render
from hexdsl.runtime.scheduler import Scheduler

TTFT_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TPOT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5)
OUTCOMES = ("stop", "length", "cancelled", "refused")


class Measures:
    """Written by the engine's thread, read by the server's."""

    def __init__(self, scheduler: Scheduler, waiting: Callable[[], int]) -> None:
        pool = scheduler.pool
        self.requests = Counter("hexc_requests_total", "Requests by how they ended.", "outcome", OUTCOMES)
        self.prompt_tokens = Counter("hexc_prompt_tokens_total", "Prompt tokens accepted.")
        self.generated_tokens = Counter("hexc_generated_tokens_total", "Tokens generated.")
        self.ttft = Histogram("hexc_ttft_seconds", "Arrival to first token.", TTFT_BOUNDS)
        self.tpot = Histogram("hexc_tpot_seconds", "Mean time between a request's tokens after the first.", TPOT_BOUNDS)
        self._gauges = (
            Gauge("hexc_requests_running", "Requests in the batch.", lambda: len(scheduler.running)),
            Gauge("hexc_requests_waiting", "Requests in the queue.", waiting),
            Gauge("hexc_kv_blocks_used", "KV blocks that sequences hold.", lambda: pool.used),
            Gauge("hexc_kv_blocks_total", "KV blocks in the pool.", lambda: pool.total),
            Gauge("hexc_kv_usage_ratio", "Share of the KV blocks in use.", lambda: pool.used / pool.total),
            Gauge("hexc_preemptions", "Times a sequence gave its blocks back.", lambda: scheduler.preemptions),
        )

    def render(self) -> str:
        return render((self.requests, self.prompt_tokens, self.generated_tokens, self.ttft, self.tpot, *self._gauges))
