"""Measure the pairs side by side and print the ratios."""

from __future__ import annotations

import argparse
import gc
import statistics
from collections.abc import Callable
from time import perf_counter

from benchmarks.scenarios import Pair, pairs_of


def loops_for(function: Callable[[], object], seconds: float) -> int:
    """Return how often to call ``function`` for a sample of ``seconds``, after warming it up."""
    loops = 1
    while (taken := sample(function, loops)) < seconds / 4:
        loops *= 4
    return max(1, round(loops * seconds / taken))


def sample(function: Callable[[], object], loops: int) -> float:
    """Return the seconds that ``loops`` calls take."""
    started = perf_counter()
    for _ in range(loops):
        function()
    return perf_counter() - started


def compare(pair: Pair, rounds: int, seconds: float) -> tuple[float, list[float]]:
    """Return the microseconds of a call by hand, and the ratio of each round."""
    hand_loops, package_loops = (loops_for(f, seconds) for f in (pair.by_hand, pair.package))
    by_hand: list[float] = []
    ratios: list[float] = []
    for number in range(rounds):
        if number % 2:
            package = sample(pair.package, package_loops) / package_loops
            hand = sample(pair.by_hand, hand_loops) / hand_loops
        else:
            hand = sample(pair.by_hand, hand_loops) / hand_loops
            package = sample(pair.package, package_loops) / package_loops
        by_hand.append(hand * 1e6)
        ratios.append(package / hand)
    return statistics.median(by_hand), ratios


def main() -> None:
    """Run the scenarios that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="sqlite://", help="the database (default: in memory)")
    parser.add_argument("--only", default="", help="scenarios, separated by commas")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--sample", type=float, default=0.02, help="seconds of one sample")
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))

    print(f"{'scenario':<10} {'by hand':>12} {'ratio':>7}   quartiles")
    for pair in pairs_of(options.url):
        if only and pair.name not in only:
            continue
        gc.collect()
        gc.freeze()
        hand, ratios = compare(pair, options.rounds, options.sample)
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{pair.name:<10} {hand:9.2f} us {middle:7.2f}   {low:.2f}..{high:.2f}")


if __name__ == "__main__":
    main()
