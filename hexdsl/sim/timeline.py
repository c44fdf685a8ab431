"""What a replica did over time."""

from __future__ import annotations

from array import array


class Timeline:
    """Samples of a replica's queue, running sequences, used blocks and seconds at work, and its sums."""

    __slots__ = (
        "_at_s", "_blocks", "busy", "busy_s", "kv_block_s", "peak_blocks", "running", "time_s", "used", "waiting"
    )  # fmt: skip

    def __init__(self, members: int) -> None:
        self.time_s, self.waiting, self.running, self.used = array("d"), array("l"), array("l"), array("l")
        self.busy, self.busy_s = array("d"), [0.0] * members
        self.kv_block_s = self._at_s = 0.0
        self.peak_blocks = self._blocks = 0

    def note(self, now_s: float, waiting: int, running: int, used: int) -> None:
        """The state from now on; of several at one time the last counts."""
        self.grow(now_s, self._blocks)
        self._blocks = used
        if used > self.peak_blocks:
            self.peak_blocks = used
        if self.time_s and self.time_s[-1] == now_s:
            self.waiting[-1], self.running[-1], self.used[-1] = waiting, running, used
            self.busy[-1] = max(self.busy_s)
            return
        self.time_s.append(now_s)
        self.waiting.append(waiting)
        self.running.append(running)
        self.used.append(used)
        self.busy.append(max(self.busy_s))

    def work(self, busy_s: tuple[float, ...]) -> None:
        """Seconds that each member has been at work."""
        for i, seconds in enumerate(busy_s):
            self.busy_s[i] += seconds

    def grow(self, now_s: float, used: int) -> None:
        """The blocks in use have grown evenly to this number."""
        self.kv_block_s += (self._blocks + used) / 2 * (now_s - self._at_s)
        self._at_s, self._blocks = now_s, used
        if used > self.peak_blocks:
            self.peak_blocks = used
