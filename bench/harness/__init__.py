"""What the measurements in bench/ share: machine, servers, fixtures, load, rounds, reports. Python's standard library alone."""
