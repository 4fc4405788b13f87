#!/usr/bin/env python3
"""No operation costs more than 10 % more than in the previous release: bench/regress.py. And before that,
on made-up figures: that it would be said if one did."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "bench"))
import regress  # noqa: E402
import regress_base  # noqa: E402
import regress_measure  # noqa: E402
from regress_measure import clusters  # noqa: E402


def figures(instructions, cycles):
    return {"put": {"leader": {"instructions": instructions, "cycles": cycles}}}


def verdicts(base, now, accepted=None):
    return [row["ok"] for row in regress.compare(base, now, accepted or {})]


def comparison(tally):
    base = figures(1000.0, 2000.0)
    for name, now, accepted, wanted in [
            ("the same", base, {}, [True]),
            ("less", figures(500, 900), {}, [True]),
            ("9 % more", figures(1090, 2180), {}, [True]),
            ("11 % more instructions", figures(1110, 2000), {}, [False]),
            ("11 % more cycles", figures(1000, 2220), {}, [False]),
            ("11 % more, accepted", figures(1110, 2220), {"put": 15}, [True]),
            ("16 % more than accepted", figures(1160, 2000), {"put": 15}, [False]),
            ("5 % accepted does not lower the limit", figures(1090, 2000), {"put": 5}, [True]),
            ("accepted for another", figures(1110, 2000), {"get": 15}, [False]),
            ("not measured now", {}, {}, [False]),
            ("a new one", dict(base, get=base["put"]), {}, [True, False])]:
        tally.check(verdicts(base, now, accepted) == wanted, "comparison: " + name)
    tally.check(regress.lower(figures(10, 20), figures(11, 19)) == figures(10, 19) and
                regress.lower(figures(10, 20), {}) == figures(10, 20), "the lower of two measurements")


def summaries(tally):
    rounds = [{"leader": {"instructions": n, "cycles": 2 * n}} for n in (100, 130, 101)]
    leader = regress_measure.summarize(rounds)["leader"]
    tally.check(leader["instructions"] == 101 and leader["cycles"] == 202 and
                leader["instructions_spread"] == 29.7, "the median, and the spread", str(leader))
    idle = regress_measure.subtract_idle([{"instructions": 100, "cycles": 200}],
                                         [{"instructions": 10, "cycles": 15}], 2)
    tally.check(idle == [{"instructions": 80, "cycles": 170}], "what costs time is taken off", str(idle))


def records(tally):
    """When recorded figures count: the same commit, method and environment."""
    record = {"commit": "c", "method": regress_base.method_id(),
              "environment": regress_base.environment()}
    tally.check(regress_base.differences(record, "c") == [], "a record of here and now counts")
    for name, other in [("commit", dict(record, commit="d")), ("method", dict(record, method="m")),
                        ("compiler", dict(record, environment=dict(record["environment"],
                                                                   compiler="cc 1")))]:
        tally.check(len(regress_base.differences(other, "c")) == 1, "not with another " + name)
    missing = "0123456789" * 4
    try:
        regress_base.Base("made up", missing, dict(record, commit=missing, method="m")).figures(lambda text: None)
        said = ""
    except regress_base.BaseError as error:
        said = str(error)
    tally.check(said.startswith("CANNOT COMPARE"), "a base that is not in the history is an error", said)


def main():
    clusters.exit_on_signals()
    tally = clusters.Tally()
    comparison(tally)
    summaries(tally)
    records(tally)
    try:
        for row in regress.run():
            tally.check(row["ok"], "%s, %s" % (row["load"], row["role"]))
    except (regress_base.BaseError, regress_measure.MeasureError, clusters.ClusterError) as error:
        tally.check(False, "the comparison", str(error))
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
