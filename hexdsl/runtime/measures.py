"""What one replica counts and times, as served at /metrics."""

from __future__ import annotations

from collections.abc import Callable

from hexdsl.runtime.metrics import Counter, Gauge, Histogram, render
from hexdsl.runtime.scheduler import Scheduler
from hexdsl.runtime.transfers import Transfers

TTFT_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TPOT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5)
HANDOVER_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
OUTCOMES = ("stop", "length", "cancelled", "refused", "moved")


class Measures:
    """Written by the engine's thread, read by the server's."""

    def __init__(self, scheduler: Scheduler, transfers: Transfers, waiting: Callable[[], int]) -> None:
        pool = scheduler.pool
        self.requests = Counter("hexc_requests_total", "Requests by how they ended.", "outcome", OUTCOMES)
        self.prompt_tokens = Counter("hexc_prompt_tokens_total", "Prompt tokens accepted.")
        self.generated_tokens = Counter("hexc_generated_tokens_total", "Tokens generated.")
        self.ttft = Histogram("hexc_ttft_seconds", "Arrival to first token.", TTFT_BOUNDS)
        self.tpot = Histogram("hexc_tpot_seconds", "Mean time between a request's tokens after the first.", TPOT_BOUNDS)
        self.arrivals = Counter("hexc_handover_arrivals_total", "Requests that came with their KV cache.")
        self.handover_bytes = Counter("hexc_handover_bytes_total", "Bytes of KV cache sent to other replicas.")
        self.handover = Histogram(
            "hexc_handover_seconds", "Halt of a request here to its start elsewhere.", HANDOVER_BOUNDS
        )
        self.handover_failures = Counter("hexc_handover_failures_total", "Handovers that a replica did not complete.")
        self._gauges = (
            Gauge("hexc_requests_running", "Requests in the batch.", lambda: len(scheduler.running)),
            Gauge("hexc_requests_waiting", "Requests in the queue.", waiting),
            Gauge("hexc_prefill_waiting", "Requests in the queue for their prompt.", scheduler.prefills),
            Gauge("hexc_decode_waiting", "Requests in the queue for their KV cache.", scheduler.decodes),
            Gauge("hexc_requests_leaving", "Requests on their way to another replica.", scheduler.leavings),
            Gauge("hexc_requests_arriving", "Requests whose KV cache is awaited.", lambda: len(transfers.arrivals)),
            Gauge("hexc_kv_blocks_used", "KV blocks that sequences hold.", lambda: pool.used),
            Gauge("hexc_kv_blocks_total", "KV blocks in the pool.", lambda: pool.total),
            Gauge("hexc_kv_usage_ratio", "Share of the KV blocks in use.", lambda: pool.used / pool.total),
            Gauge("hexc_preemptions", "Times a sequence gave its blocks back.", lambda: scheduler.preemptions),
        )

    def render(self) -> str:
        counted = (self.requests, self.prompt_tokens, self.generated_tokens, self.arrivals, self.handover_bytes)
        return render((*counted, self.handover_failures, self.ttft, self.tpot, self.handover, *self._gauges))
