"""The workloads of perf/ops in DuckDB: `read` is the binary file to numpy, `load` numpy to a table of its own in memory, `compute` the query alone
(to numpy), `write` numpy to the file. For terasort DuckDB sorts the keys with the records' numbers, numpy gathers the records."""
import duckdb
import numpy as np

import common


def connect(threads):
    con = duckdb.connect(":memory:")
    con.execute(f"SET threads = {threads}")
    con.execute("SET preserve_insertion_order = false")
    return con


def table(con, name, columns):
    con.register("numpy_columns", columns)
    con.execute(f"CREATE TABLE {name} AS SELECT * FROM numpy_columns")
    con.unregister("numpy_columns")


def groupby(clock, threads, path, out):
    key, value = common.load_columns(path, 2)
    clock.phase("read")
    con = connect(threads)
    table(con, "t", {"key": key, "value": value.view("<f8")})
    clock.phase("load")
    got = con.execute("SELECT key, sum(value) AS sum FROM t GROUP BY key").fetchnumpy()
    clock.phase("compute")
    common.write_columns(out, [np.asarray(got["key"]), np.asarray(got["sum"])])
    clock.phase("write")


def join(clock, threads, left, right, out, kind):
    sides = [common.load_columns(path, 2) for path in (left, right)]
    clock.phase("read")
    con = connect(threads)
    for name, (key, value) in zip("lr", sides):
        table(con, name, {"key": key, "value": value})
    clock.phase("load")
    if kind == "full":
        # coalesce in the query: no masks for numpy.
        query = f"""SELECT coalesce(l.key, r.key) AS key, coalesce(l.value, {common.NONE}) AS l, coalesce(r.value, {common.NONE}) AS r
                    FROM l FULL OUTER JOIN r ON l.key = r.key"""
    else:
        query = "SELECT l.key AS key, l.value AS l, r.value AS r FROM l JOIN r ON l.key = r.key"
    got = con.execute(query).fetchnumpy()
    clock.phase("compute")
    common.write_columns(out, [np.ma.getdata(got[c]) for c in ("key", "l", "r")])
    clock.phase("write")


def wordcount(clock, threads, path, out, words):
    pieces = common.load_words(path)
    clock.phase("read")
    con = connect(threads)
    table(con, "t", {"text": np.array(pieces, dtype=object)})
    clock.phase("load")
    query = """SELECT word, count(*) AS n FROM (SELECT unnest(string_split_regex(text, ?)) AS word FROM t) WHERE word <> '' GROUP BY word"""
    got = con.execute(query, [common.BETWEEN[words]]).fetchnumpy()
    clock.phase("compute")
    common.write_lines(out, got["word"].tolist(), got["n"].tolist())
    clock.phase("write")


def terasort(clock, threads, path, out):
    head, tail, records = common.load_records(path)
    clock.phase("read")
    con = connect(threads)
    table(con, "t", {"head": head, "tail": tail, "i": np.arange(len(head), dtype=np.uint32)})
    clock.phase("load")
    order = con.execute("SELECT i FROM t ORDER BY head, tail, i").fetchnumpy()["i"]
    clock.phase("compute")
    common.write_records(out, records, np.asarray(order))
    clock.phase("write")


def sort(clock, threads, path, out):
    keys = np.fromfile(path, dtype="<u8")
    clock.phase("read")
    con = connect(threads)
    table(con, "t", {"key": keys})
    clock.phase("load")
    got = np.asarray(con.execute("SELECT key FROM t ORDER BY key").fetchnumpy()["key"])
    clock.phase("compute")
    got.tofile(out)
    clock.phase("write")


if __name__ == "__main__":
    common.main(f"duckdb {duckdb.__version__}", {"groupby": groupby, "join": join, "wordcount": wordcount, "terasort": terasort, "sort": sort})
