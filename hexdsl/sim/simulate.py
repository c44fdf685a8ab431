"""The simulation: one clock, one heap of events, replicas, a router, links."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import Any

from hexdsl.sim.job import Job, Lane
from hexdsl.sim.replica import Keep, Replica
from hexdsl.sim.request import Action, Cancel, Outcome, Replay, Request, Source, Status, Wake
from hexdsl.sim.result import Records, Result, make_result
from hexdsl.sim.routing import Router
from hexdsl.sim.spec import Cluster, Failure, SimConfig
from hexdsl.sim.transfers import Network, Transfer

DEFAULT_CONFIG = SimConfig()


def simulate(requests: Source | Sequence[Request], cluster: Cluster, config: SimConfig = DEFAULT_CONFIG) -> Result:
    """Plays the requests through the cluster until all have ended.  Same inputs, same result.

    A request that a failed replica had starts again on another one; its answer so far is lost.  Raises ValueError where
    requests do not come in the order of their arrival, share an id, or ask for less than one token.
    """
    source = Replay(requests) if isinstance(requests, Sequence) else requests
    return Simulation(source, cluster, config).run()


class Simulation:
    """Implements the `World` that replicas see."""

    def __init__(self, source: Source, cluster: Cluster, config: SimConfig) -> None:
        self.source, self.cluster, self.config = source, cluster, config
        self.replicas = [Replica(spec, i, self, config.max_jump) for i, spec in enumerate(cluster.replicas)]
        self.router = Router(cluster.router)
        self.network = Network(cluster.links)
        self.records = Records()
        self.now_s = 0.0
        self._routes = {(route.source, route.target): route for route in cluster.routes}
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = self._due = 0
        self._live: dict[int, Job] = {}
        self._stranded: dict[Job, None] = {}
        self._kept: dict[Job, Keep] = {}
        self._transfers: dict[Job, Transfer] = {}
        self._net_version = 0

    def run(self) -> Result:
        for failure in self.cluster.failures:
            self._at(failure.at_s, self._fail, failure)
        arrivals = iter(self.source.start())
        coming = next(arrivals, None)
        events, until = self._events, self.config.until_s
        while coming is not None or (events and (self._live or self._due)):
            if coming is not None and not (events and events[0][0] < coming.arrival_s):
                if coming.arrival_s > until:
                    break
                self._arrive_in_order(coming)
                coming = next(arrivals, None)
                continue
            at, _, act, what = heappop(events)
            if at > until:
                break
            self.now_s = at
            act(*what)
        return make_result(self.records, self.replicas, self.network, self.now_s)

    # What replicas tell

    def starts(self, now_s: float, replica: Replica) -> None:
        self._at(now_s, replica.start, now_s)

    def step_ends(self, at_s: float, replica: Replica, lane: Lane | None, version: int) -> None:
        self._at(at_s, replica.step_done, lane, version, at_s)

    def admitted(self, job: Job, now_s: float) -> None:
        self.records.admitted(job, now_s)

    def preempted(self, job: Job) -> None:
        self.records.preemptions[job.row] += 1

    def first_token(self, job: Job, now_s: float) -> None:
        self.records.first_token_s[job.row] = now_s

    def ended(self, job: Job, now_s: float) -> None:
        self._close(job, Status.cancelled if job.state == "cancelled" else Status.finished, now_s)

    def hand_over(self, job: Job, keep: Keep, now_s: float) -> None:
        """A prefill replica has given the first token: a decode replica goes on."""
        self._kept[job] = keep
        job.state = "handed"
        self._route(job)

    def fetch(self, job: Job, now_s: float) -> None:
        """The decode replica has room: the KV cache travels."""
        keep, target = self._kept[job], self.replicas[job.replica]
        route = self._routes.get((keep.replica.spec.name, target.spec.name))
        links, size = (route.links, job.computed * route.token_bytes) if route else ((), 0.0)
        if not links or size == 0:
            self._at(now_s + self.network.latency_s(links), self._fetched, job, target.epoch)
            return
        transfer = self._transfers[job] = Transfer(job, size, links)
        self.network.start(transfer, now_s)
        self._expect_transfer()

    # Arrivals

    def _arrive_in_order(self, request: Request) -> None:
        if request.arrival_s < self.records.last_arrival_s:
            raise ValueError(f"request {request.id} arrives before the one ahead of it")
        self.records.last_arrival_s = request.arrival_s
        self.now_s = max(self.now_s, request.arrival_s)
        self._arrive(request)

    def _arrive(self, request: Request) -> None:
        if request.id in self._live:
            raise ValueError(f"two requests with id {request.id} at the same time")
        if min(request.prompt, request.output) < 1:
            raise ValueError(f"request {request.id} has a prompt or an output of less than one token")
        job = Job(request, self.records.add(request))
        self._live[request.id] = job
        self._route(job)

    def _route(self, job: Job) -> None:
        """Sends a job to a replica; to none, if none that could take it is up or will be."""
        source = self._kept[job].replica if job in self._kept else None
        fit = [r for r in self.replicas if self._suits(r, job, source)]
        able = [r for r in fit if r.up]
        if not able:
            self._no_replica(job, fit)
            return
        replica = self.router.choose(job.request, able, source.spec.name if source else "")
        job.replica = replica.index
        job.limit = min(job.request.output, replica.spec.engine.longest - job.request.prompt)
        replica.work.load += 1
        self.records.replica[job.row] = replica.index
        if replica.spec.engine.entry_s and source is None:
            job.state = "entering"
            self._at(self.now_s + replica.spec.engine.entry_s, self._enter, job, replica, replica.epoch)
        else:
            replica.submit(job, self.now_s)

    def _enter(self, job: Job, replica: Replica, epoch: int) -> None:
        if replica.epoch != epoch:
            self._again(job)
        elif job.state == "cancelled":
            replica.work.load -= 1
            self._close(job, Status.cancelled, self.now_s)
        else:
            replica.submit(job, self.now_s)

    def _suits(self, replica: Replica, job: Job, source: Replica | None) -> bool:
        spec, request = replica.spec, job.request
        wrong = "prefill" if source else "decode"
        model = source.spec.model if source else spec.model
        named = not request.pin or request.pin in (spec.name, spec.model) or source is not None
        return spec.role != wrong and spec.model == model and named and request.prompt < replica.spec.engine.longest

    def _no_replica(self, job: Job, fit: list[Replica]) -> None:
        if any(replica.back_s < float("inf") for replica in fit):
            job.state = "stranded"
            self._stranded[job] = None
        else:
            self._close(job, Status.failed if fit else Status.rejected, self.now_s)

    # Ends

    def _close(self, job: Job, status: Status, now_s: float) -> None:
        job.state = "ended"
        request = job.request
        del self._live[request.id]
        self._let_go(job)
        self.records.close(job, status, now_s)
        name = self.replicas[job.replica].spec.name if job.replica >= 0 else ""
        first = self.records.first_token_s[job.row]
        self._act(self.source.ended(Outcome(request, status, now_s, first, job.generated, name)))

    def _let_go(self, job: Job) -> None:
        """Gives up what other places keep for the job."""
        if self._kept and (keep := self._kept.pop(job, None)):
            keep.replica.release(keep, self.now_s)
        if self._transfers and (transfer := self._transfers.pop(job, None)):
            self.network.stop(transfer, self.now_s)
            self._expect_transfer()

    def _act(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Cancel):
                self._cancel(action.id)
                continue
            at = action.at_s if isinstance(action, Wake) else action.arrival_s
            if at < self.now_s:
                raise ValueError(f"a source asks at {self.now_s} s for something at {at} s")
            self._due += 1
            self._at(at, self._wake if isinstance(action, Wake) else self._arrive_late, action)

    def _arrive_late(self, request: Request) -> None:
        self._due -= 1
        self._arrive(request)

    def _wake(self, wake: Wake) -> None:
        self._due -= 1
        self._act(self.source.woken(self.now_s))

    def _cancel(self, number: int) -> None:
        job = self._live.get(number)
        if job is None or job.state == "cancelled":
            return
        if job.state == "entering":
            job.state = "cancelled"
        elif job in self._stranded:
            del self._stranded[job]
            self._close(job, Status.cancelled, self.now_s)
        else:
            self.replicas[job.replica].cancel(job, self.now_s)

    # Transfers

    def _expect_transfer(self) -> None:
        self._net_version += 1
        following = self.network.next_end()
        if following is not None:
            self._at(following[0], self._sent, following[1], self._net_version)

    def _sent(self, transfer: Transfer, version: int) -> None:
        if version != self._net_version:
            return
        self.network.stop(transfer, self.now_s)
        job = transfer.job
        del self._transfers[job]
        target = self.replicas[job.replica]
        self._at(self.now_s + self.network.latency_s(transfer.links), self._fetched, job, target.epoch)
        self._expect_transfer()

    def _fetched(self, job: Job, epoch: int) -> None:
        target = self.replicas[job.replica]
        if target.epoch != epoch or job not in target.work.arriving:
            return
        self._let_go(job)
        target.arrive(job, self.now_s)

    # Failures

    def _fail(self, failure: Failure) -> None:
        hit = [r for r in self.replicas if failure.name in (r.spec.name, *r.spec.nodes)]
        back = self.now_s + failure.down_s
        lost: list[Job] = []
        for replica in hit:
            replica.back_s = max(back, replica.back_s) if not replica.up else back
            lost += replica.fail(self.now_s)
            lost += [job for job, keep in self._kept.items() if keep.replica is replica]
        for replica in hit:
            if replica.back_s < float("inf"):
                self._at(replica.back_s, self._restore, replica)
        for job in dict.fromkeys(lost):
            self._again(job)

    def _restore(self, replica: Replica) -> None:
        if replica.up or self.now_s < replica.back_s:
            return
        replica.restore(self.now_s)
        stranded, self._stranded = self._stranded, {}
        for job in stranded:
            self._route(job)

    def _again(self, job: Job) -> None:
        """Starts a job from its beginning, on another replica."""
        if job.state == "cancelled":
            self._close(job, Status.cancelled, self.now_s)
            return
        self._stranded.pop(job, None)
        replica = self.replicas[job.replica]
        if job in self._kept and replica.up and job.state in ("waiting", "arriving"):
            replica.forget(job, self.now_s)
        self._let_go(job)
        job.restart()
        self.records.retries[job.row] += 1
        self._route(job)

    def _at(self, at_s: float, act: Callable[..., None], *what: Any) -> None:
        self._count += 1
        heappush(self._events, (at_s, self._count, act, what))
