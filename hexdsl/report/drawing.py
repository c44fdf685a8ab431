"""Where the cluster's machines, GPUs and links stand in the page's drawing.  Units are CSS pixels at full size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hexdsl.ir.plan import Machine, Plan
from hexdsl.report import figures as say
from hexdsl.report.topology import Group, Join, groups, joins

COLOURS = 8
ROOMY_MACHINES = 12
"""Machines up to which every GPU is drawn large enough for words."""
MOST_DRAWN = 64
"""Machines of one group that are drawn; the rest is counted."""
MOST_LINKS = 12
ACROSS = 8
LEAST_ACROSS = 4
ROW_WIDTH = 356
LANE = 20
LINE = 17
GAP = 46


@dataclass(frozen=True)
class Cell:
    """One GPU: its place, who holds it (`r1`, and the stage where there are several), and the colour's number."""

    x: float
    y: float
    size: float
    title: str
    holder: str = ""
    stage: str = ""
    color: int | None = None


@dataclass(frozen=True)
class Box:
    """One machine."""

    x: float
    y: float
    width: float
    height: float
    title: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Band:
    """One group: its words and its machines, from `y` to `bottom`."""

    name: str
    y: float
    bottom: float
    lines: tuple[str, ...]
    boxes: tuple[Box, ...]
    left_out: int = 0


@dataclass(frozen=True)
class Wire:
    """A link between two groups: straight down between neighbours, or along a lane on the left."""

    path: str
    x: float
    y: float
    label: str
    turned: bool


@dataclass(frozen=True)
class Drawing:
    width: float
    height: float
    bands: tuple[Band, ...]
    wires: tuple[Wire, ...]
    roomy: bool
    left: float
    undrawn: int = 0
    """Links between groups that are only in the table, because there are too many to draw."""


@dataclass(frozen=True)
class _Scale:
    """Sizes of the drawing: large cells with words, or small ones."""

    roomy: bool
    left: float

    @property
    def cell(self) -> float:
        return 38 if self.roomy else 15

    @property
    def width(self) -> float:
        return self.left + ROW_WIDTH + 8

    def width_of(self, machine: Machine) -> float:
        return min(ACROSS, max(LEAST_ACROSS, len(machine.devices))) * (self.cell + 2) + 14


def drawing(plan: Plan) -> Drawing:
    """The drawing of a plan's cluster."""
    shown = groups(plan)
    names = {g.name for g in shown}
    between = [j for j in joins(plan) if j.kind == "between" and j.left != j.right and {j.left, j.right} <= names]
    wired = between if len(between) <= MOST_LINKS else []
    lanes = [j for j in wired if abs(_place(j.left, shown) - _place(j.right, shown)) != 1]
    scale = _Scale(len(plan.machines) <= ROOMY_MACHINES, 2 + LANE * len(lanes))
    bands = tuple(_bands(plan, shown, scale))
    bottom = bands[-1].bottom if bands else 0
    wires = tuple(_wires(wired, bands, scale))
    return Drawing(scale.width, bottom + 4, bands, wires, scale.roomy, scale.left, len(between) - len(wired))


def _place(name: str, shown: Sequence[Group]) -> int:
    return [g.name for g in shown].index(name)


def _bands(plan: Plan, shown: Sequence[Group], scale: _Scale) -> Iterator[Band]:
    holders = _holders(plan)
    top = 4.0
    for group in shown:
        lines = (group.title, *_inside(group, joins(plan)))
        drawn = _worth_drawing(group.machines, holders)
        boxes = tuple(_boxes(drawn, top + 6 + LINE * len(lines), scale, holders))
        left_out = len(group.machines) - len(drawn)
        bottom = max(b.y + b.height for b in boxes) + (LINE + 4 if left_out else 0)
        yield Band(group.name, top, bottom, lines, boxes, left_out)
        top = bottom + GAP


def _inside(group: Group, links: Sequence[Join]) -> Iterator[str]:
    words = {"inside": "inside a machine", "within": "between machines"}
    told = [f"{j.label} {words[j.kind]}" for j in links if j.left == group.name and j.kind in words]
    if told:
        yield "; ".join(told)


def _worth_drawing(machines: Sequence[Machine], holders: dict[str, Cell]) -> Sequence[Machine]:
    """The machines in use first, where there are too many to draw."""
    if len(machines) <= MOST_DRAWN:
        return machines
    return sorted(machines, key=lambda m: not any(d.id in holders for d in m.devices))[:MOST_DRAWN]


def _holders(plan: Plan) -> dict[str, Cell]:
    """GPU to an unplaced cell that says who holds it."""
    found = {}
    for number, held in enumerate(plan.replicas):
        for index, stage in enumerate(held.stages, 1):
            place = str(index) if len(held.stages) > 1 else ""
            words = f"{held.name}{f' stage {place}' if place else ''}, layers {say.layers(stage)}"
            cell = Cell(0, 0, 0, words, held.name, place, number % COLOURS)
            found.update(dict.fromkeys(stage.devices, cell))
    return found


def _boxes(machines: Sequence[Machine], top: float, scale: _Scale, holders: dict[str, Cell]) -> Iterator[Box]:
    y = top
    for row in _rows(machines, scale):
        deepest = max(-(-len(m.devices) // ACROSS) for m in row)
        height = LINE + 12 + deepest * (scale.cell + 2)
        x = scale.left + 4
        for machine in row:
            width = scale.width_of(machine)
            yield Box(x, y, width, height, _title(machine, scale), tuple(_cells(machine, x, y, scale, holders)))
            x += width + 6
        y += height + 6


def _rows(machines: Sequence[Machine], scale: _Scale) -> Iterator[list[Machine]]:
    row: list[Machine] = []
    for machine in machines:
        if row and sum(scale.width_of(m) + 6 for m in row) + scale.width_of(machine) > ROW_WIDTH:
            yield row
            row = []
        row.append(machine)
    yield row


def _title(machine: Machine, scale: _Scale) -> str:
    named = machine.host != machine.id and scale.roomy
    return f"{machine.id} ({machine.host})" if named else machine.id


def _cells(machine: Machine, x: float, y: float, scale: _Scale, holders: dict[str, Cell]) -> Iterator[Cell]:
    for n, device in enumerate(machine.devices):
        left = x + 8 + n % ACROSS * (scale.cell + 2)
        top = y + LINE + 6 + n // ACROSS * (scale.cell + 2)
        holder = holders.get(device.id, Cell(0, 0, 0, "idle"))
        yield replace(holder, x=left, y=top, size=scale.cell, title=f"{device.id} ({device.gpu}): {holder.title}")


def _wires(links: Sequence[Join], bands: Sequence[Band], scale: _Scale) -> Iterator[Wire]:
    place = {band.name: i for i, band in enumerate(bands)}
    straight = scale.left + 24
    lane = 0
    for link in links:
        high, low = sorted((bands[place[link.left]], bands[place[link.right]]), key=lambda b: b.y)
        if abs(place[link.left] - place[link.right]) == 1:
            middle = (high.bottom + low.y) / 2
            yield Wire(f"M{straight} {high.bottom}V{low.y}", straight + 10, middle + 4, link.label, turned=False)
            continue
        x = 8 + LANE * lane
        lane += 1
        start, end = (high.y + 12 + 5 * lane, low.y + 12 + 5 * lane)
        yield Wire(f"M{scale.left} {start}H{x}V{end}H{scale.left}", x + 12, (start + end) / 2, link.label, turned=True)
