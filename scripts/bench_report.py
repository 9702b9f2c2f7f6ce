"""The report of bench.py in Markdown: its tables, its notes, and its place in a page."""

import shlex
import statistics

from bench_parts import median, pair_ratio, peak_mib, peak_of, spread

START, END = "<!-- bench.py -->", "<!-- /bench.py -->"
GB = 10**9
# The shares of an input that must at least, or may at most, come from the disk.
COLD, WARM = 0.9, 0.1

HEAD = ["case", "GB in", "GB out", "seconds [min-max]", "reference", "its s", "ratio", "at most", "peak RSS MiB",
        "CPU s"]
LEFT_ALIGNED = ("case", "reference", "at most", "at least", "timed", "against", "peer", "outputs")


def table(head, rows):
    """Write a table whose columns are aligned in the text too."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    left = [name in LEFT_ALIGNED for name in head]
    lines = [
        [word.ljust(width) if to_left else word.rjust(width) for word, width, to_left in zip(line, widths, left)]
        for line in [head, *rows]
    ]
    lines.insert(1, ["-" * width if to_left else "-" * (width - 1) + ":" for width, to_left in zip(widths, left)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verdict(value, limit, judged):
    """Say whether a limit is kept."""
    return "" if value is None or not judged else " met" if value <= limit else " missed"


# --- results ----------------------------------------------------------------------------------------------


def ratio_of(result):
    """Give the median of the ratios of a result's pairs."""
    return pair_ratio(result.runs, result.references)


def target_text(result, results, judged):
    """Write a row's target and whether it was met."""
    target = result.row.target
    if target is None:
        return ""
    if target.of == "ratio":
        return f"{target.limit:.2f}{verdict(ratio_of(result), target.limit, judged)}"
    if target.of == "seconds":
        return f"{target.limit} s{verdict(median(result.runs), target.limit, judged)}"
    base = next((ratio_of(other) for other in results if other.row.key == target.of), None)
    value = ratio_of(result) / base if base else None
    return f"{target.limit} x {target.of}{verdict(value, target.limit, judged)}"


def rss_text(result, judged):
    """Write the peak of a row's memory, its target and whether it was met."""
    limit, peak = result.row.rss, peak_of(result.runs)
    kept = f" of {limit}{verdict(peak, limit, judged)}" if limit and peak is not None else ""
    return peak_mib(result.runs) + kept


def cpu_text(runs):
    """Write the median of the CPU seconds."""
    return f"{statistics.median(run.cpu for run in runs):.2f}"


def main_table(results, judged):
    """Write the table of all rows."""
    return table(HEAD, [[
        f"{result.row.key} {result.row.name}", f"{result.size_in / GB:.3f}", f"{result.size_out / GB:.3f}",
        spread(result.runs), result.row.label, f"{median(result.references):.3f}", f"{ratio_of(result):.3f}",
        target_text(result, results, judged), rss_text(result, judged), cpu_text(result.runs),
    ] for result in results])


def scale_table(results):
    """Write the table of one conversion at several sizes."""
    head = ["case", "GB in", "seconds [min-max]", "s per GB", "reference", "its s", "ratio", "peak RSS MiB", "CPU s"]
    return table(head, [[
        result.row.key, f"{result.size_in / GB:.3f}", spread(result.runs),
        f"{median(result.runs) * GB / result.size_in:.3f}", result.row.label, f"{median(result.references):.3f}",
        f"{ratio_of(result):.3f}", peak_mib(result.runs), cpu_text(result.runs),
    ] for result in results])


def peer_table(compared, judged):
    """Write the table of what other converters take."""
    head = ["case", "peer", "seconds [min-max]", "ckpt2st s", "times", "at least", "peak RSS MiB", "outputs"]
    lines = []
    for one in compared:
        faster = pair_ratio(one.runs, one.ours)
        met = verdict(-faster, -one.target, judged) if one.target else ""
        lines.append([
            f"{one.row.key} {one.row.name}", one.peer.name, spread(one.runs), f"{median(one.ours):.3f}",
            f"{faster:.1f}", f"{one.target}{met}" if one.target else "", peak_mib(one.runs),
            "equal" if one.equal else "differ",
        ])
    return table(head, lines)


def command_table(pairs):
    """Write which two commands made each row."""
    return table(["case", "timed", "against"], [
        [name, f"`{shlex.join(timed)}`", f"`{shlex.join(against)}`"] for name, (timed, against) in pairs.items()
    ])


# --- notes ------------------------------------------------------------------------------------------------


def cache_notes(results):
    """Say which rows did not find their inputs where they should have, by what came from the disk."""
    for result in results:
        read = [run.read for run in result.runs + result.references]
        if result.row.cold and min(read) < COLD * result.size_in:
            yield f"{result.row.key}: of {result.size_in} bytes only {min(read)} came from the disk in some run."
        if not result.row.cold and max(read) > WARM * result.size_in:
            yield f"{result.row.key}: {max(read)} bytes came from the disk in some run, not from the page cache."


def packed_notes(results):
    """Say how fast what is packed is unpacked."""
    for result in results:
        if result.row.input.layout in ("deflated", "gzip"):
            rate = result.size_out / GB / median(result.runs)
            yield f"{result.row.key}: the reference copies the packed file; {rate:.3f} GB are unpacked per second."


# --- the page ---------------------------------------------------------------------------------------------


def has_place(text):
    """Say whether a page has the place for the report."""
    return START in text and END in text.partition(START)[2]


def put_into(path, report):
    """Replace what stands between the markers of a page."""
    before, _, rest = path.read_text().partition(START)
    path.write_text(f"{before}{START}\n{report}\n{END}{rest.partition(END)[2]}")
