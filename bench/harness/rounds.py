"""Measuring several things so that they can be compared: in turns, each several times, told as median and range."""

import statistics
from dataclasses import asdict, dataclass

from . import servers


@dataclass(frozen=True)
class Figure:
    """The values of all rounds of one measurement."""

    values: tuple
    unit: str

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def low(self):
        return min(self.values)

    @property
    def high(self):
        return max(self.values)

    def as_json(self):
        return asdict(self) | {"median": self.median, "low": self.low, "high": self.high}

    def __str__(self):
        return f"{written(self.median)} ({written(self.low)}–{written(self.high)})"


def written(value):
    """A number as a person reads it: three digits that say something."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def ratio(one, other):
    """How many times the median of the other; `None` where there is no other, or where it did nothing."""
    return one.median / other.median if one and other and other.median else None


def in_turns(contenders, rounds, measure, unit):
    """Measures each contender `rounds` times, A B A B: what the machine does beside it hits all alike.
    What one of them still does for clients that have gone is waited for.

    `contenders` is a dict of a name to whatever `measure` takes and answers with a number. Gives a dict of the name to
    its `Figure`.
    """
    values = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            servers.rest()
            values[name].append(measure(contender))
    return {name: Figure(tuple(found), unit) for name, found in values.items()}
