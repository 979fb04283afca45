"""report.py -- the result of bench/compare as text tables and as one self-contained HTML page.

The plots are gnuplot's (SVG, inside the page); without gnuplot the page has its tables alone.
"""
import base64
import html
import os
import shutil
import subprocess
import tempfile

import benchlib
import goals

COLOURS = ("#1b6ca8", "#d1495b", "#2e933c", "#edae49", "#7b4fa3", "#00798c", "#8d6b4f", "#ef7b9d", "#66717e",
           "#9bc53d", "#3d348b", "#f18701", "#444444", "#16a085")
GROUPS = (("program", "Programs"), ("trace", "Traces of applications, replayed"), ("app", "Applications"),
          ("start", "Process start-up"))
WORST_ROWS = 12
CLAMP = 6.0  # a dot further out stands at the edge

STYLE = """
:root{--ink:#1d2733;--soft:#5d6b7a;--line:#dde3ea;--back:#f6f8fa;--card:#fff}
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);margin:0}
main{max-width:1180px;margin:0 auto;padding:2rem 1.2rem 4rem}h1{font-size:1.7rem;margin:0}
h2{font-size:1.15rem;margin:2.4rem 0 .6rem}p{margin:.4rem 0;max-width:52rem}.soft{color:var(--soft);font-size:.9rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:1rem;margin:.8rem 0;overflow-x:auto}
.card img{display:block;max-width:100%;margin:auto}table{border-collapse:collapse;font-size:.84rem;width:100%}
th,td{padding:.22rem .5rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--soft)}th:first-child,td:first-child{text-align:left;position:sticky;left:0;
background:var(--card)}td.best{font-weight:700}td small{color:var(--soft)}tr:hover td{outline:1px solid var(--line)}
code{font-size:.85em}details summary{cursor:pointer;color:var(--soft)}.ok{color:#187a36}.bad{color:#b3261e}
"""


def number(value, digits=3):
    if value is None:
        return "-"
    if value >= 1000:
        return "%.0f" % value
    return "%.*g" % (digits, value) if value < 100 else "%.1f" % value


def ratio_text(entry, name):
    ratio = entry["ratios"].get(name)
    if not ratio:
        return "-"
    text = "%.2f" % ratio["time"]
    if ratio["interval"]:
        text += " [%.2f %.2f]" % tuple(ratio["interval"])
    return text


# ---- the terminal ----

def speed_lines(summary, names):
    lines = []
    for name, entry in summary.items():
        cells = [name]
        for allocator in names:
            figures = entry["allocators"].get(allocator)
            if figures is None:
                cells.append("failed" if allocator in entry["errors"] else "-")
            elif entry["metric"] == "mops":
                cells.append(number(figures["mops"]))
            else:
                cells.append("%.2fms" % (figures["time"] * 1000))
        best = entry.get("best", "-")
        lines.append(cells + [best, ratio_text(entry, best)])
    return lines


def worst_rows(summary):
    rows = [(entry["ratios"][entry["best"]]["time"], name, entry["best"]) for name, entry in summary.items()
            if entry["ratios"]]
    return sorted(rows, reverse=True)


def text_report(summary, names, averages):
    parts = ["Speed: Mops/s (higher is better), or ms of CPU; last column: time hakmem / best peer\n"
             + benchlib.table(speed_lines(summary, names), ["row"] + names + ["best peer", "time / best"])]
    lines = []
    for name, entry in summary.items():
        figures = entry["allocators"]
        cells = ["%.1f" % (figures[one]["rss"] / 1024) if one in figures else "-" for one in names]
        lines.append([name] + cells + [entry.get("leanest", "-")])
    parts.append("Peak RSS in MiB\n" + benchlib.table(lines, ["row"] + names + ["leanest peer"]))
    if averages:
        lines = [[name, one["rows"], number(one["time"]), number(one["cpu"]), number(one["rss"]),
                  number(one["rss_idle"])] for name, one in averages.items()]
        parts.append("Geometric means over the rows of hakmem / peer (below 1: hakmem is ahead)\n"
                     + benchlib.table(lines, ["peer", "rows", "time", "CPU", "peak RSS", "idle RSS"]))
        lines = [[name, "%.2f" % ratio, best] for ratio, name, best in worst_rows(summary)[:WORST_ROWS]]
        parts.append("The rows furthest behind their best peer\n" + benchlib.table(lines, ["row", "time / best", "best peer"]))
    found = goals.goals(summary, averages)
    if found:
        parts.append("Goals\n" + goals.text(found))
    failures = ["%s, %s: %s" % (name, who, why) for name, entry in summary.items()
                for who, why in entry["errors"].items()]
    if failures:
        parts.append("Failures\n  " + "\n  ".join(failures))
    return "\n\n".join(parts)


# ---- plots ----

def gnuplot(script):
    """The SVG that a script draws, as an <img>; "" when it cannot be drawn."""
    if not shutil.which("gnuplot"):
        return ""
    done = subprocess.run(["gnuplot"], input=script, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0 or "<svg" not in done.stdout:
        benchlib.note("gnuplot: " + done.stderr.strip()[:300])
        return ""
    data = base64.b64encode(done.stdout.encode("utf-8")).decode("ascii")
    return '<img alt="plot" src="data:image/svg+xml;base64,%s">' % data


def plot_means(averages, names):
    """Bars: geometric means of hakmem / peer, time and peak RSS."""
    peers = [name for name in names if name in averages]
    if not peers:
        return ""
    with tempfile.NamedTemporaryFile("w", suffix=".dat", encoding="utf-8") as data:
        for name in peers:
            data.write('"%s" %.4f %.4f\n' % (name, averages[name]["time"], averages[name]["rss"] or 1))
        data.flush()
        return gnuplot("""
set terminal svg size 1080,340 dynamic font "sans,13" background "#ffffff"
set style data histograms
set style histogram clustered gap 1.2
set style fill solid 1 noborder
set boxwidth 0.92
set border 3 lc rgb "#9aa5b1"
set grid ytics lc rgb "#e3e8ee" lt 1
set yrange [0:*]
set ytics nomirror tc rgb "#1d2733"
set xtics nomirror noenhanced tc rgb "#1d2733"
set key outside top right horizontal
set arrow 1 from graph 0, first 1 to graph 1, first 1 nohead lc rgb "#1d2733" dt 2 front
plot "%s" using 2:xtic(1) title "time" lc rgb "%s", "" using 3 title "peak RSS" lc rgb "%s", \\
     "" using ($0-0.2):($2+0.03):(sprintf("%%.2f", $2)) with labels font ",11" notitle, \\
     "" using ($0+0.2):($3+0.03):(sprintf("%%.2f", $3)) with labels font ",11" notitle
""" % (data.name, COLOURS[0], COLOURS[3]))


def plot_dots(entries, names, key):
    """A dot for each row and peer: peer / hakmem, right of 1 where hakmem is ahead."""
    entries = [item for item in entries if item[1]["ratios"]]
    peers = [name for name in names if any(name in entry["ratios"] for _, entry in entries)]
    if len(entries) < 2:
        return ""
    with tempfile.TemporaryDirectory(prefix="plot.") as folder:
        draws = []
        for index, peer in enumerate(peers):
            path = os.path.join(folder, "%d.dat" % index)
            with open(path, "w", encoding="ascii") as out:
                for place, (_, entry) in enumerate(entries):
                    value = (entry["ratios"].get(peer) or {}).get(key)
                    if value:
                        out.write("%.4f %d\n" % (min(CLAMP, max(1 / CLAMP, 1 / value)), len(entries) - place))
                out.write("nan nan\n")
            draws.append('"%s" using 1:2 with points pt 7 ps 0.62 lc rgb "%s" title "%s"'
                         % (path, COLOURS[(index + 1) % len(COLOURS)], peer))
        labels = ", ".join('"%s" %d' % (name, len(entries) - place) for place, (name, _) in enumerate(entries))
        return gnuplot("""
set terminal svg size 1080,%d dynamic font "sans,12" background "#ffffff" noenhanced
set border 1 lc rgb "#9aa5b1"
set logscale x 2
set xrange [%g:%g]
set yrange [0.4:%g]
set ytics (%s) nomirror scale 0 tc rgb "#1d2733"
set xtics nomirror ("1/6" 1./6, "1/4" 0.25, "1/2" 0.5, "1/1.4" 0.7071, "1" 1, "1.4" 1.4142, "2" 2, "4" 4, "6" 6) tc rgb "#1d2733"
set grid ytics lc rgb "#edf0f4" lt 1
set grid xtics lc rgb "#edf0f4" lt 1
set key outside top center horizontal maxrows 2
set arrow 1 from 1, graph 0 to 1, graph 1 nohead lc rgb "#1d2733" lw 1.4 front
set xlabel "left of 1: the peer is ahead            right of 1: hakmem is ahead"
plot %s
""" % (110 + 19 * len(entries), 1 / CLAMP, CLAMP, len(entries) + 0.6, labels, ", ".join(draws)))


# ---- the page ----

def shade(ratio):
    """Background of a ratio hakmem / peer: green below 1, red above."""
    if ratio is None:
        return ""
    strength = min(1.0, abs(ratio - 1) / 0.6) * 0.55
    if abs(ratio - 1) < 0.02:
        return ""
    colour = "24,122,54" if ratio < 1 else "179,38,30"
    return ' style="background:rgba(%s,%.2f)"' % (colour, strength)


def ratio_table(entries, names, key):
    peers = [name for name in names if any(name in entry["ratios"] for _, entry in entries)]
    head = "".join("<th>%s</th>" % html.escape(name) for name in peers)
    lines = ["<table><tr><th>row</th><th>hakmem</th>%s</tr>" % head]
    for name, entry in entries:
        mine = entry["allocators"].get(benchlib.SUBJECT)
        if key == "time":
            own = "failed" if not mine else number(mine["mops"]) + " Mops/s" if entry["metric"] == "mops" \
                else "%.2f ms" % (mine["time"] * 1000)
        else:
            own = number(mine[key] / 1024) + " MiB" if mine and mine.get(key) else "-"
        cells = []
        for peer in peers:
            pair = entry["ratios"].get(peer)
            value = pair.get(key) if pair else None
            if value is None:
                cells.append("<td>%s</td>" % ("failed" if peer in entry["errors"] else "-"))
                continue
            hint = ""
            if key == "time" and pair["interval"]:
                hint = ' title="95 %% interval %.3f to %.3f"' % tuple(pair["interval"])
            best = ' class="best"' if peer == entry.get("best" if key == "time" else "leanest") else ""
            cells.append("<td%s%s%s>%.2f</td>" % (best, hint, shade(value), value))
        title = html.escape(" ".join(os.path.basename(word) for word in entry["argv"]))
        lines.append('<tr><td title="%s">%s</td><td>%s</td>%s</tr>' % (title, html.escape(name), own, "".join(cells)))
    return "\n".join(lines) + "</table>"


def count_table(entries, names, key, form):
    lines = ["<table><tr><th>row</th>%s</tr>" % "".join("<th>%s</th>" % html.escape(name) for name in names)]
    for name, entry in entries:
        cells = [entry["allocators"].get(one, {}).get(key) for one in names]
        if any(cell is not None for cell in cells):
            lines.append("<tr><td>%s</td>%s</tr>" % (html.escape(name), "".join(
                "<td>%s</td>" % (form % cell if cell is not None else "-") for cell in cells)))
    return "\n".join(lines) + "</table>" if len(lines) > 1 else ""


def means_table(averages):
    lines = ["<table><tr><th>hakmem / peer, geometric mean</th><th>rows</th><th>time</th><th>CPU</th>"
             "<th>peak RSS</th><th>idle RSS</th></tr>"]
    for name, one in averages.items():
        cells = "".join("<td%s>%s</td>" % (shade(one[key]), number(one[key]))
                        for key in ("time", "cpu", "rss", "rss_idle"))
        lines.append("<tr><td>%s</td><td>%d</td>%s</tr>" % (html.escape(name), one["rows"], cells))
    return "\n".join(lines) + "</table>"


def worst_table(summary):
    rows = worst_rows(summary)
    ahead = sum(ratio <= 1 for ratio, _, _ in rows)
    lines = ["<p>Ahead of the best peer in %d of %d rows. Furthest behind:</p><table><tr><th>row</th><th>time / best"
             "</th><th>best peer</th></tr>" % (ahead, len(rows))]
    for ratio, name, best in rows[:WORST_ROWS]:
        lines.append("<tr><td>%s</td><td%s>%.2f</td><td>%s</td></tr>"
                     % (html.escape(name), shade(ratio), ratio, html.escape(best)))
    return "\n".join(lines) + "</table>"


def goals_table(found):
    if not found:
        return ""
    lines = ["<table><tr><th>goal</th><th>wanted</th><th>measured</th><th></th></tr>"]
    for what, wanted, measured, held in found:
        lines.append("<tr><td>%s</td><td>%s</td><td>%s</td><td class=%s>%s</td></tr>"
                     % (html.escape(what), wanted, measured, "ok" if held else "bad", "held" if held else "missed"))
    return "\n".join(lines) + "</table>"


def card(content):
    return '<div class="card">%s</div>' % content if content else ""


def html_report(result, text, path):
    summary, averages = result["summary"], result["means"]
    names = list(result["libraries"])
    everything = list(summary.items())
    page = ["<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
            "<title>HAKMEM side by side</title><style>%s</style><main>" % STYLE,
            "<h1>HAKMEM side by side</h1><p class=soft>%s</p>" % html.escape(result["setting"]),
            "<p>All allocators run each row one straight after the other, round by round. A ratio is hakmem's median "
            "over the peer's: below 1 (green) hakmem needs less. Bold: the row's best peer. Point at a ratio for its "
            "95 % interval, at a row's name for its command.</p>"]
    if averages:
        page += ["<h2>All rows together</h2>", card(plot_means(averages, names)), card(means_table(averages)),
                 card(worst_table(summary)), "<h2>Goals</h2>", card(goals_table(goals.goals(summary, averages)))]
    for group, title in GROUPS:
        entries = [(name, entry) for name, entry in everything if entry["group"] == group]
        if entries:
            page += ["<h2>%s: time</h2>" % title, card(plot_dots(entries, names, "time")),
                     card(ratio_table(entries, names, "time"))]
    page += ["<h2>Peak resident memory</h2>", card(plot_dots(everything, names, "rss")),
             card(ratio_table(everything, names, "rss"))]
    if any("rss_idle" in one for _, entry in everything for one in entry["allocators"].values()):
        page += ["<h2>Resident memory two idle seconds after everything was freed</h2>",
                 card(ratio_table([item for item in everything if any(
                     "rss_idle" in one for one in item[1]["allocators"].values())], names, "rss_idle"))]
    for key, form, title in (("faults", "%d", "Page faults"), ("calls", "%d", "System calls for memory"),
                             ("futex", "%d", "futex calls"), ("cpu", "%.2f", "CPU seconds of the whole process"),
                             ("wall", "%.2f", "Wall seconds of the whole process")):
        content = count_table(everything, names, key, form)
        if content:
            page.append("<h2>%s</h2>%s" % (title, card(content)))
    libraries = "".join("<tr><td>%s</td><td>%s</td></tr>" % (html.escape(name), html.escape(where or "(none)"))
                        for name, where in result["libraries"].items())
    page += ["<h2>What was measured</h2>", card("<table>%s</table>" % libraries),
             card("<details><summary>The same as text</summary><pre>%s</pre></details>" % html.escape(text)),
             "</main></html>"]
    with open(path, "w", encoding="utf-8") as out:
        out.write("\n".join(piece for piece in page if piece) + "\n")
    return path
