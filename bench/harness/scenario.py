"""What every scenario does around its measurements: arguments, a folder of its own, the kept result."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from . import machine
from .report import Report

RESULTS = machine.ROOT / "bench" / "results"


def run(name, doc, measure, needs=("taskset",), arguments=(), rounds=5):
    """Measures one scenario: `measure(report, folder, options)`.

    `doc` is the script's own documentation; its first paragraph tells in the report what was measured. `arguments` are
    pairs of a name and what `add_argument` takes, beyond those that every scenario has.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"how often each is measured, in turns ({rounds})")
    parser.add_argument("--seconds", type=int, default=4, help="how long one load lasts (4)")
    parser.add_argument("--quick", action="store_true", help="one round of a second: only to see that it works")
    parser.add_argument("--json", type=Path, default=RESULTS / f"{name}.json", help="where the result is kept")
    parser.add_argument("--keep", action="store_true", help="leave the folder with data and logs")
    for option, more in arguments:
        parser.add_argument(option, **more)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1
    machine.need(*needs)
    report = Report(name, " ".join(doc.strip().split("\n\n")[0].split()))
    folder = Path(tempfile.mkdtemp(prefix=f"holdfast-bench-{name}-"))
    try:
        measure(report, folder, options)
        if options.quick:
            print("quick: nothing was kept", file=sys.stderr)
        else:
            report.keep(options.json)
            print(f"kept in {options.json}", file=sys.stderr)
    finally:
        if options.keep:
            print(f"data and logs: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
