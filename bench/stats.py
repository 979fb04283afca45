"""stats.py -- medians, bootstrap intervals and means for bench/compare and ci/gate-ratios.sh."""
import math
import random

BOOTSTRAPS = 2000


def median(values):
    values = sorted(values)
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def geometric_mean(values):
    values = [value for value in values if value and value > 0]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def bootstrap(ours, theirs):
    """95 % interval of median(ours) / median(theirs), resampling rounds (pairs stay together)."""
    count = min(len(ours), len(theirs))
    if count < 3:
        return None
    chance = random.Random(1)
    ratios = []
    for _ in range(BOOTSTRAPS):
        picks = [chance.randrange(count) for _ in range(count)]
        ratios.append(median([ours[i] for i in picks]) / max(1e-12, median([theirs[i] for i in picks])))
    ratios.sort()
    return [ratios[int(0.025 * BOOTSTRAPS)], ratios[int(0.975 * BOOTSTRAPS) - 1]]


def summarise(rows, samples, extras, subject):
    """For each row: medians per allocator, the best and the leanest peer, ratios with intervals."""
    summary = {}
    for row in rows:
        entry = {"argv": row.argv, "metric": row.metric, "group": row.group, "allocators": {}, "errors": {},
                 "ratios": {}}
        good = {}
        for name, results in samples[row.name].items():
            errors = [one["error"] for one in results if "error" in one]
            if errors:
                entry["errors"][name] = errors[0]
            elif results:
                good[name] = results
                figures = {key: median([one[key] for one in results]) for key in ("time", "wall", "cpu", "rss", "faults")}
                figures["mops"] = 1.0 / figures["time"] if row.metric == "mops" else None
                figures["runs"] = len(results)
                figures.update(extras.get(row.name, {}).get(name, {}))
                entry["allocators"][name] = figures
        sums = {one.get("checksum") for results in good.values() for one in results}
        if row.checked and len(sums) > 1:
            entry["errors"]["(all)"] = "checksums differ: " + " ".join(sorted(map(str, sums)))
        peers = [name for name in good if name != subject]
        if peers:
            entry["best"] = min(peers, key=lambda one: entry["allocators"][one]["time"])
            entry["leanest"] = min(peers, key=lambda one: entry["allocators"][one]["rss"])
        if subject in good:
            mine = entry["allocators"][subject]
            for name in peers:
                theirs = entry["allocators"][name]
                entry["ratios"][name] = {
                    "time": mine["time"] / max(1e-12, theirs["time"]),
                    "interval": bootstrap([one["time"] for one in good[subject]], [one["time"] for one in good[name]]),
                    "cpu": mine["cpu"] / max(1e-9, theirs["cpu"]),
                    "rss": mine["rss"] / max(1, theirs["rss"]),
                    "rss_idle": mine["rss_idle"] / theirs["rss_idle"]
                                if mine.get("rss_idle") and theirs.get("rss_idle") else None,
                }
        summary[row.name] = entry
    return summary


def means(summary, names):
    """Geometric means over the rows of hakmem / peer, and against the best peer of each row."""
    result = {}
    entries = [entry for entry in summary.values() if entry["ratios"]]
    for name in names:
        pairs = [entry["ratios"][name] for entry in entries if name in entry["ratios"]]
        if pairs:
            result[name] = {key: geometric_mean([pair[key] for pair in pairs])
                            for key in ("time", "cpu", "rss", "rss_idle")}
            result[name]["rows"] = len(pairs)
    if entries:
        best = [entry["ratios"][entry["best"]]["time"] for entry in entries]
        result["best of row"] = {
            "time": geometric_mean(best), "cpu": None,
            "rss": geometric_mean([entry["ratios"][entry["leanest"]]["rss"] for entry in entries]),
            "rss_idle": None, "rows": len(entries), "worst_time": max(best)}
    return result
