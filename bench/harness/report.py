"""What a measurement prints and keeps: one table for people, one JSON file for whatever reads it."""

import json
import sys
from pathlib import Path

from . import machine
from .rounds import Figure, written


class Report:
    """The results of one scenario. `about` says in one or two sentences what is measured and how."""

    def __init__(self, scenario, about):
        self.scenario, self.about = scenario, about
        self.tables = []

    def table(self, title, columns, rows):
        """`rows` are lists of cells: texts, numbers, `Figure`s, or `None` where there is nothing to say."""
        self.tables.append({"title": title, "columns": columns, "rows": rows})
        print(f"\n{title}\n", flush=True)
        print(markdown(columns, rows), flush=True)

    def as_json(self):
        plain = lambda cell: cell.as_json() if isinstance(cell, Figure) else cell
        tables = [table | {"rows": [[plain(cell) for cell in row] for row in table["rows"]]} for table in self.tables]
        return {"scenario": self.scenario, "about": self.about, "machine": machine.describe(), "tables": tables}

    def keep(self, path):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n")


def cell(value):
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    return written(value) if isinstance(value, float) else str(value)


def markdown(columns, rows):
    """A table of Markdown whose columns line up."""
    cells = [[cell(value) for value in row] for row in [columns, *rows]]
    widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
    lines = ["| " + " | ".join(text.ljust(width) for text, width in zip(row, widths)) + " |" for row in cells]
    return "\n".join([lines[0], "| " + " | ".join("-" * width for width in widths) + " |", *lines[1:]])


def note(text):
    """Says what goes on, apart from results."""
    print(f"   {text}", file=sys.stderr, flush=True)
