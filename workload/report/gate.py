"""A gate's verdict for people (console, Markdown) and for a CI server (JUnit XML); see `workload.analysis.gate`."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, tostring

from workload.analysis.wording import number, percent
from workload.report.run_pair import QUANTITIES

if TYPE_CHECKING:
    from workload.analysis.gate import Judgement, Timed
    from workload.report.serving import Table
    from workload.statistics.regression import Verdict

ELEMENTS: dict[Verdict, str] = {"fail": "failure", "undecided": "skipped"}


def rows_of(found: Judgement) -> Table:
    """Return the table of a verdict: every figure with both values, or its change with its bounds."""
    columns = ("load", "figure", "reference", "now, or change [bounds]", "n", "verdict")
    rows: list[tuple[str, ...]] = [
        (row["load"], row["figure"], number(row["reference"]), number(row["found"]), "exact", row["verdict"])
        for row in found["exact"]
    ]
    rows += [
        (row["load"], QUANTITIES[row["quantity"]], "", _change(row), str(row["n"]), row["verdict"])
        for row in found["times"]
    ]
    return columns, rows


def _change(row: Timed) -> str:
    low, high = (percent(row[side], signed=True) for side in ("low", "high"))
    power = "" if row["detectable"] is None else f"; more than {percent(row['detectable'], signed=True)} would be found"
    return f"{percent(row['change'], signed=True)} [{low}, {high}]{power}"


def sentences(found: Judgement) -> list[str]:
    """Return the verdict in words, and how it was reached."""
    limit = percent(found["tolerance"])
    words = {
        "pass": f"No figure is worse by more than the tolerance of {limit}.",
        "fail": "At least one figure is worse than in the reference.",
        "undecided": "Neither a regression nor its absence could be shown.",
    }
    alarms = percent(found["false_alarms"])
    how = (
        f"Times fail where the lower bound of the paired change is above {limit}, and pass where the upper bound is "
        f"not; without a change, all of them together raise an alarm in at most {alarms} of runs."
    )
    said = f"{found['verdict']}: {words[found['verdict']]}"
    return [said, how, *(f"Undecided because: {reason}." for reason in found["why"])]


def markdown(found: Judgement) -> str:
    """Return the summary that a CI server shows on its page."""
    columns, rows = rows_of(found)
    lines = [f"## hop2rag gate: {found['verdict']}", "", f"`{found['run']}` against `{found['reference']}`", ""]
    lines += [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in sentences(found)), ""])


def junit(found: Judgement) -> str:
    """Return JUnit XML: one case a figure; undecided ones are skipped, with what is known of them."""
    _, rows = rows_of(found)
    verdicts = [row[-1] for row in rows]
    counts = {"tests": len(rows), "failures": verdicts.count("fail"), "skipped": verdicts.count("undecided")}
    suite = Element("testsuite", {"name": "hop2rag gate"} | {name: str(count) for name, count in counts.items()})
    for load, figure, reference, value, n, verdict in rows:
        case = SubElement(suite, "testcase", classname=f"hop2rag.gate.{load}", name=figure)
        text = f"{reference} -> {value}, n = {n}" if reference else f"{value}, n = {n}"
        if element := ELEMENTS.get(verdict):  # type: ignore[call-overload]
            SubElement(case, element, message=text)
        SubElement(case, "system-out").text = text
    SubElement(suite, "system-out").text = "\n".join(sentences(found))
    return tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
