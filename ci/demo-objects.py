"""A workload of mixed Python objects for `make run`: strings, lists, dicts and byte buffers of many
sizes, kept in a working set that turns over.  Prints a checksum, so that runs can be compared."""

import json
import random

random.seed(42)
working_set = [None] * 20_000
checksum = 0

for step in range(600_000):
    place = random.randrange(len(working_set))
    kind = step % 5
    if kind == 0:
        item = "x" * random.randrange(8, 2_000)
    elif kind == 1:
        item = list(range(random.randrange(1, 60)))
    elif kind == 2:
        item = {str(key): key for key in range(random.randrange(1, 12))}
    elif kind == 3:
        item = bytearray(random.randrange(16, 20_000) if step % 50 == 3 else 100)
    else:
        item = (step, float(step), str(step))
    checksum = (checksum * 31 + len(item)) % 1_000_003
    working_set[place] = item

for round_number in range(6):
    rows = [{"id": row, "name": f"row {row}", "tags": ["a", "b", str(row % 7)]} for row in range(20_000)]
    text = json.dumps(rows)
    checksum = (checksum * 31 + len(text) + len(json.loads(text))) % 1_000_003

print("checksum", checksum)
