"""Compare throughput with 8 threads, and see whether memory stays flat over many requests.

python -m benchmarks.load --url sqlite:////tmp/load.db
python -m benchmarks.load --url postgresql+psycopg://... --requests 100000

The threads do nine reads for each insert. Memory is that of the process, in its highest state.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from flask import Flask

from benchmarks.scenarios import Bench, caller, insert, read

THREADS, ROUNDS, CALLS = 8, 10, 40


def mixed(app: Flask) -> Callable[[], None]:
    """Return what a thread does in a round: nine reads for each insert."""
    reads, inserts = caller(app, "/read"), caller(app, "/insert")

    def work() -> None:
        for number in range(CALLS):
            (reads if number % 10 else inserts)()

    return work


def seconds_of(pool: ThreadPoolExecutor, work: Callable[[], None]) -> float:
    """Return how long all threads together take for a round; what one raises is raised here."""
    started = perf_counter()
    for done in [pool.submit(work) for _ in range(THREADS)]:
        done.result()
    return perf_counter() - started


def throughput(by_hand: Callable[[], None], package: Callable[[], None]) -> list[float]:
    """Return the throughput with the package over that by hand, for each round."""
    ratios: list[float] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for work in (by_hand, package):
            seconds_of(pool, work)  # warm up
        for number in range(ROUNDS):
            if number % 2:
                ours, theirs = seconds_of(pool, package), seconds_of(pool, by_hand)
            else:
                theirs, ours = seconds_of(pool, by_hand), seconds_of(pool, package)
            ratios.append(theirs / ours)
    return ratios


def left_behind(work: Callable[[], object], requests: int) -> tuple[int, float]:
    """Return how many KiB the process grows by, and what each request leaves to the cyclic GC."""
    for _ in range(1_000):
        work()
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(requests):
        work()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            work()
        garbage = gc.collect()
    finally:
        gc.enable()
    return grown, garbage / 100


def main() -> None:
    """Print the throughput ratio, and the memory that is left behind, by hand and with us."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="the database, one for several threads")
    parser.add_argument("--requests", type=int, default=20_000)
    options = parser.parse_args()
    bench = Bench(options.url)
    for body in (read, insert):
        bench.add_view(body)
    ratios = throughput(mixed(bench.by_hand), mixed(bench.package))
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"throughput of {THREADS} threads: {middle:.2f}   {low:.2f}..{high:.2f}")
    for name, app in (("by hand", bench.by_hand), ("package", bench.package)):
        grown, garbage = left_behind(caller(app, "/read"), options.requests)
        print(f"{name}: {grown} KiB more after {options.requests} reads; {garbage} objects to GC")
    bench.close()


if __name__ == "__main__":
    main()
