#!/usr/bin/env bash
# DataFusion 55.0.0 (PyPI wheel): some operators hold rows that its memory pool does not count.
#
# Each query below runs in a process of its own over 200 MB of rows, 50 kB each, with a pool of 20 MB and two partitions.
# - Window functions, CREATE TABLE AS and INSERT into a table in memory reserve nothing: the queries succeed, with all 200 MB
#   (and copies) in memory.
# - GROUP BY spills, but reserves nothing for the copies that it sorts and writes: it peaks at several times the pool.
# - array_agg with GROUP BY fails, but only after it has taken several times the pool: the exchange between the partial and the
#   final aggregation gathers a batch by its number of rows, and a row here is a list of megabytes.
# ArrowQuant therefore reserves for the first kind itself, plans no exchanges, and gives the pool a quarter of its limit.
#
# Prints what each query took above an idle process. Exits with 1 if one of them takes less than said here, or ends otherwise.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check datafusion==55.0.0 pyarrow==26.0.1

cat > "$work/probe.py" <<'PYTHON'
import resource
import sys

from datafusion import RuntimeEnvBuilder, SessionConfig, SessionContext

ROWS = "SELECT value, repeat(lpad(CAST(value AS VARCHAR), 8, '0'), 6250) AS s FROM range(0, 4000)"
LISTS = "SELECT value % 20 AS g, array_repeat(value, 6250) AS s FROM range(0, 4000)"
STATEMENTS = {
    "idle": ["SELECT 1"],
    "window": [f"SELECT sum(length(s)), max(n) FROM (SELECT s, count(*) OVER () AS n FROM ({ROWS}))"],
    "create": [f"CREATE TABLE t AS {ROWS}", "SELECT sum(length(s)) FROM t"],
    "insert": ["CREATE TABLE t AS SELECT 0 AS value, '' AS s", f"INSERT INTO t {ROWS}", "SELECT sum(length(s)) FROM t"],
    "group": [f"SELECT count(*) FROM (SELECT s, count(*) AS n FROM ({LISTS}) GROUP BY s)"],
    "array_agg": [f"SELECT sum(cardinality(a)) FROM (SELECT g, array_agg(s) AS a FROM ({LISTS}) GROUP BY g)"],
}

runtime = RuntimeEnvBuilder().with_disk_manager_os().with_fair_spill_pool(20_000_000)
context = SessionContext(SessionConfig().with_target_partitions(2).with_batch_size(128), runtime)
end = "done"
try:
    for statement in STATEMENTS[sys.argv[1]]:
        context.sql(statement).collect()
except Exception as error:
    end = "out_of_memory" if "Resources exhausted" in str(error) else str(error).replace("\n", " ")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000, end)
PYTHON

read -r idle _ < <("$work/venv/bin/python" "$work/probe.py" idle)
changed=0
# What a query takes at least, in MB, and how it ends.
while read -r query least expected; do
    read -r peak end < <("$work/venv/bin/python" "$work/probe.py" "$query")
    taken=$((peak - idle))
    echo "$query: $taken MB with a pool of 20 MB, $end"
    if [ "$taken" -lt "$least" ] || [ "$end" != "$expected" ]; then
        echo "  changed: expected at least $least MB and $expected"
        changed=1
    fi
done <<'CASES'
window 200 done
create 180 done
insert 180 done
group 80 done
array_agg 100 out_of_memory
CASES
exit "$changed"
