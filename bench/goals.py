"""goals.py -- the goals of the project against one result of bench/compare: what is held, what is missed.

A goal that the run cannot tell (a peer or a row was not measured) is left out.  Peers that Debian does not
package count under the names that PEERS gives them: mimalloc3, mimalloc2, snmalloc, rpmalloc.
"""
import benchlib
import stats

TIME_MEANS = (("mimalloc3", 0.70), ("mimalloc2", 0.82), ("snmalloc", 0.82), ("jemalloc", 0.75))
LEAN = ("rpmalloc", "snmalloc", "jemalloc", "tcmalloc")
BULK = ("bulk_1k_32", "bulk_1k_32_reverse", "bulk_1k_256_shuffle", "bulk_10k_64", "bulk_10k_64_shuffle",
        "bulk_100k_64", "bulk_100k_64_reverse", "bulk_100k_64_shuffle")
GROWTH = ("growth_96m", "growth_400m", "grow_giant")


def goals(summary, means):
    """[(goal, wanted, measured, held)]"""
    found = []

    def at_most(what, wanted, measured, form="%.2f"):
        if measured is not None:
            found.append((what, "at most " + form % wanted, form % measured, measured <= wanted))

    def best_ratio(name):
        entry = summary.get(name)
        return entry["ratios"][entry["best"]]["time"] if entry and entry["ratios"] else None

    def time_of(row, who=benchlib.SUBJECT):
        return summary.get(row, {}).get("allocators", {}).get(who, {}).get("time")

    for peer, wanted in TIME_MEANS:
        if peer in means:
            at_most("time of %s's, geometric mean" % peer, wanted, means[peer]["time"])
    if "best of row" in means:
        at_most("time of the best peer of each row, geometric mean", 0.98, means["best of row"]["time"])
        at_most("the row furthest behind its best peer", 1.05, means["best of row"]["worst_time"])
    ratios = [ratio for ratio in map(best_ratio, BULK) if ratio is not None]
    if ratios:
        at_most("bulk of 1,000 to 100,000 small blocks, against the best: the worst row", 1.0, max(ratios))
    snmalloc = summary.get("prodcons", {}).get("ratios", {}).get("snmalloc")
    if snmalloc:
        at_most("producer and consumer, of snmalloc's time", 1.0, snmalloc["time"])
    lean = [means[name]["rss"] for name in LEAN if name in means]
    if lean:
        at_most("peak RSS of the leanest of %s, geometric mean" % ", ".join(n for n in LEAN if n in means), 1.0, max(lean))
    ratios = [ratio for ratio in map(best_ratio, GROWTH) if ratio is not None]
    if ratios:
        at_most("growth-bound rows, of the best peer's time: geometric mean", 0.6, stats.geometric_mean(ratios))
    small, large = time_of("random_mixed"), time_of("random_mixed_8192")
    if small and large:
        at_most("random_mixed, working set 4,096 to 8,192: slower by", 5.0, (large / small - 1) * 100, "%.1f %%")
    scaling = [time_of(one) / time_of(two) for one, two in (("pair_32", "pair_32_mt"), ("mid_64k_1", "mid_64k_mt"))
               if time_of(one) and time_of(two)]
    if scaling and not any(entry.get("by_cpu") for entry in summary.values()):  # CPU time cannot tell
        found.append(("throughput from 1 to 2 threads on independent work", "at least 1.95", "%.2f" % min(scaling),
                      min(scaling) >= 1.95))
    mine, theirs = time_of("start_true"), time_of("start_true", "glibc")
    if mine and theirs:
        at_most("start-up of true, CPU above glibc's", 0.10, (mine - theirs) * 1000, "%.2f ms")
    return found


def text(found):
    return benchlib.table([[what, wanted, measured, "held" if held else "MISSED"]
                           for what, wanted, measured, held in found], ["goal", "wanted", "measured", ""])
