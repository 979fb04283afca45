#!/usr/bin/env python3
"""coverage-summary.py LCOV EXCLUSIONS LINES_GOAL BRANCHES_GOAL -- lines and branches by file.

EXCLUSIONS: lines `file: text | reason`. Each names source lines by their text (a whole line without
its blanks, or from `{` on the block that it opens), which must be there; they and their branches do
not count. `*` as text is the whole file. `*: name( | reason` names a macro: the branches of its
uses in any file do not count, the lines do."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def read_exclusions(path):
    """{file: set of line numbers}; ends the program when a text is not in its file."""
    excluded, macros, wrong = {}, [], []
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = re.match(r"(\S+): (.*\S)\s+\| (\S.*)$", line)
        if not found:
            wrong.append(f"{path}:{number}: not `file: text | reason`")
            continue
        name, text, _ = found.groups()
        if name == "*":
            macros.append(text)
            continue
        source = (ROOT / name).read_text().split("\n")
        places = [i for i, code in enumerate(source, 1) if code.strip() == text]
        if text == "*":
            places = range(1, len(source) + 1)
        elif not places:
            wrong.append(f"{path}:{number}: {name} has no line `{text}`")
        lines = excluded.setdefault(name, set())
        for place in places:
            lines.add(place)
            if text.endswith("{"):
                indent = len(source[place - 1]) - len(source[place - 1].lstrip())
                for i in range(place, len(source)):
                    lines.add(i + 1)
                    code = source[i]
                    if code.strip().startswith("}") and len(code) - len(code.lstrip()) == indent:
                        break
    for text in wrong:
        print(text)
    if wrong:
        sys.exit(1)
    return excluded, macros


def macro_lines(source, macros):
    """The lines of every use of a macro, to its closing parenthesis."""
    found = set()
    for number, code in enumerate(source):
        if not any(re.search(r"\b" + re.escape(macro), code) for macro in macros):
            continue
        depth = 0
        for i in range(number, len(source)):
            found.add(i + 1)
            depth += source[i].count("(") - source[i].count(")")
            if depth <= 0:
                break
    return found


def read_lcov(path):
    """{file: ({line: count}, {(line, block, branch): taken})}"""
    files, lines, branches = {}, {}, {}
    for record in path.read_text().split("\n"):
        key, _, value = record.partition(":")
        if key == "SF":
            name = str(pathlib.Path(value).resolve().relative_to(ROOT))
            lines, branches = files.setdefault(name, ({}, {}))
        elif key == "DA":
            number, count = value.split(",")[:2]
            lines[int(number)] = max(lines.get(int(number), 0), int(count))
        elif key == "BRDA":
            number, block, branch, taken = value.split(",")
            place = (int(number), block, branch)
            branches[place] = max(branches.get(place, 0), 0 if taken == "-" else int(taken))
    return files


def main():
    files = read_lcov(pathlib.Path(sys.argv[1]))
    excluded, macros = read_exclusions(pathlib.Path(sys.argv[2]))
    goals = [float(sys.argv[3]), float(sys.argv[4])]
    sums = [0, 0, 0, 0]
    out_lines = sum(len(v) for v in excluded.values())
    print(f"{'file':32} {'lines':>16} {'branches':>18}   lines and branches not reached")
    for name, (lines, branches) in sorted(files.items()):
        if not name.startswith(("src/", "include/")):
            continue
        out = excluded.get(name, set())
        lines = {k: v for k, v in lines.items() if k not in out}
        uses = macro_lines((ROOT / name).read_text().split("\n"), macros)
        branches = {k: v for k, v in branches.items() if k[0] not in out and k[0] not in uses}
        hit = [sum(1 for v in lines.values() if v), len(lines), sum(1 for v in branches.values() if v), len(branches)]
        sums = [a + b for a, b in zip(sums, hit)]
        missing = sorted({k for k, v in lines.items() if not v} | {k[0] for k, v in branches.items() if not v})
        share = [100 * hit[i] / hit[i + 1] if hit[i + 1] else 100.0 for i in (0, 2)]
        places = " ".join(map(str, missing[:40])) + (" ..." if len(missing) > 40 else "")
        print(f"{name:32} {hit[0]:5}/{hit[1]:<5}{share[0]:5.1f}% {hit[2]:5}/{hit[3]:<5}{share[1]:6.1f}%   {places}")
    if not sums[1] or not sums[3]:
        print("coverage: nothing was measured")
        return 1
    total = [100 * sums[0] / sums[1], 100 * sums[2] / sums[3]]
    print(f"{'all':32} {sums[0]:5}/{sums[1]:<5}{total[0]:5.1f}% {sums[2]:5}/{sums[3]:<5}{total[1]:6.1f}%")
    print(f"goals: {goals[0]:.0f} % of lines, {goals[1]:.0f} % of branches; {out_lines} lines and the branches of {len(macros)} macros are excluded")
    return 0 if total[0] >= goals[0] and total[1] >= goals[1] else 1


if __name__ == "__main__":
    sys.exit(main())
