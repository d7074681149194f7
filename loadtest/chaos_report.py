"""Tables and verdict of the chaos test."""

from __future__ import annotations

from chaos_client import FAILURES

# As the tables call what was lost with a worker that was killed.
CLASSES = (*FAILURES, "held")

# More races an operation than this are no chance: connections are closed under their requests.
RACES = 3


def rows(done: list[dict]) -> list[dict]:
    """Sums of each operation in each mode, in their order."""
    sums: dict[tuple[str, str], dict] = {}
    for operation in done:
        row = sums.setdefault((operation["mode"], operation["operation"]), {
            "mode": operation["mode"], "server": operation["server"], "operation": operation["operation"], "times": 0,
            "requests": 0, "worst": 0.0, "failed": 0, "died": 0, **dict.fromkeys(CLASSES, 0),
        })  # fmt: skip
        row["times"] += 1
        row["requests"] += sum(operation["answered"].values()) + sum(operation["failures"].values())
        row["worst"] = max(row["worst"], operation["worst"])
        row["failed"] += bool(operation["problem"])
        row["died"] += operation["died"]
        for name in CLASSES:
            row[name] += operation["failures"][name]
    return list(sums.values())


def lost(row: dict) -> int:
    """What a client cannot repair by itself, and no killed worker explains."""
    return sum(row[name] for name in FAILURES if name != "race")


def table(rows: list[dict]) -> str:
    """All of it."""
    headings = [
        "server", "operation", "times", "did not settle", "server died", "requests", *FAILURES, "held by the killed", "worst ms",
    ]  # fmt: skip
    lines = [f"| {' | '.join(headings)} |", "|---|---|" + "---:|" * (len(headings) - 2)]
    for row in rows:
        cells = [
            row["mode"], row["operation"], row["times"], row["failed"], row["died"], f"{row['requests']:,}",
            *(row[name] for name in CLASSES), f"{row['worst'] * 1000:.0f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def summary(rows: list[dict]) -> str:
    """An operation a line, a server a column: requests lost of all requests, and the longest wait."""
    ours = [row | {"mode": row["server"]} for row in rows if row["server"] == "rgun-async"]
    others = [row for row in rows if row["server"] != "rgun-async"]
    columns = list(dict.fromkeys(row["mode"] for row in ours + others))
    names = list(dict.fromkeys(row["operation"] for row in ours + others))
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for name in names:
        cells = []
        for column in columns:
            here = [row for row in ours + others if row["mode"] == column and row["operation"] == name]
            cells.append(cell(here) if here else "-")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(here: list[dict]) -> str:
    """`0 of 12,345; 80 ms`, and what else there is to say."""
    total = {key: sum(row[key] for row in here) for key in ("times", "requests", "failed", "died", *CLASSES)}
    said = f"{lost(total):,} of {total['requests']:,}; {max(row['worst'] for row in here) * 1000:.0f} ms"
    notes = []
    if total["held"]:
        notes.append(f"{total['held']} held")
    if total["race"]:
        notes.append(f"{total['race']} races")
    if total["died"]:
        notes.append(f"died {total['died']} times in {total['times']}")
    elif total["failed"]:
        notes.append(f"failed {total['failed']} times in {total['times']}")
    return said + (f" ({', '.join(notes)})" if notes else "")


def verdict(done: list[dict], rows: list[dict], judged: set[str]) -> list[str]:
    """What may not be, of the modes that are judged: a line for each kind of failure, with one of them."""
    wrong: dict[str, list[str]] = {}
    for operation in done:
        if operation["mode"] not in judged:
            continue
        where = f"{operation['mode']}: {operation['operation']}"
        if operation["problem"]:
            wrong.setdefault(f"{where}: did not settle", []).append(operation["problem"])
        if operation["died"]:
            wrong.setdefault(f"{where}: the server died", []).append("")
        if not sum(operation["answered"].values()):
            wrong.setdefault(f"{where}: no request was answered", []).append("")
        for failure in operation["described"]:
            if not failure["held"] and failure["failure"] != "race":
                wrong.setdefault(f"{where}: {failure['kind']} request, {failure['failure']}", []).append(
                    f"after {failure['ended'] - failure['began']:.3f} s, {failure['answers before']} answers before on its"
                    f" connection: {failure['why']}"
                )
    for row in rows:
        if row["mode"] in judged and row["race"] > RACES * row["times"]:
            wrong[f"{row['mode']}: {row['operation']}: race"] = [f"{RACES} an operation can be chance"] * row["race"]
    return [f"{what}: {len(examples)} times; {examples[0]}" for what, examples in wrong.items()]
