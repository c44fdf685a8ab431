"""Water-filling: how many layers each node of a pipeline holds, by compute or bandwidth, within what fits."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush


def fill(layers: int, room: Sequence[int], speed: Sequence[float]) -> tuple[int, ...]:
    """Whole layers per node, 1 <= n_i <= room_i, that add up and minimise max n_i / speed_i, the slowest stage's time.

    `speed` is FLOP/s for prefill, bytes/s for decode.  Each layer goes to the node that is the quickest with it, which
    is optimal since times only grow; of equals the first.  Parallax (arXiv 2509.26182) rounds a continuous solution.
    Raises ValueError where the nodes have no room.
    """
    if not room or min(room) < 1 or not len(room) <= layers <= sum(room):
        raise ValueError(f"{layers} layers do not fit on nodes with room for {list(room)}, one or more each")
    found = [1] * len(room)
    heap = [(2 / speed[i], i) for i in range(len(room)) if room[i] > 1]
    heapify(heap)
    for _ in range(layers - len(room)):
        _, i = heappop(heap)
        found[i] += 1
        if found[i] < room[i]:
            heappush(heap, ((found[i] + 1) / speed[i], i))
    return tuple(found)
