"""Report the combined coverage and hold its threshold wherever every test could run.

Run as ``python -m tests.coverage_gate`` after ``coverage combine``. A machine without MariaDB or
Chromium skips tests, whose lines are then not covered: that is said and forgiven, but not in CI.
"""

from __future__ import annotations

import os
import sys

from coverage import Coverage

from tests.servers.programs import missing


def main() -> int:
    """Print the report; return the exit status."""
    coverage = Coverage()
    coverage.load()
    total = coverage.report()
    threshold = coverage.get_option("report:fail_under")
    assert isinstance(threshold, float)
    if total >= threshold:
        return 0
    lacking = missing()
    if os.environ.get("CI") or not lacking:
        print(f"Coverage is {total:.2f} %, which is less than {threshold:g} %.")
        return 1
    print(f"Coverage is {total:.2f} %. {threshold:g} % is asked only where every test can run:")
    print("\n".join(lacking))
    return 0


if __name__ == "__main__":
    sys.exit(main())
