#!/usr/bin/env python3
"""groupby and join against DuckDB, row for row, on random CSV files, on the bundled flights, and on all flights of nycflights13.

usage: oracle-tables.py [--sample] [--flights DIR] GROUPBY JOIN [LAUNCHER ...]

GROUPBY and JOIN are the programs. LAUNCHER words are put before them, `{n}` in them being the number of ranks, which is 1, 2 or 3:
`oracle-tables.py target/release/groupby target/release/join target/release/aeolian run -n {n}`. Files have quotes, delimiters and line breaks in
quotes, NULLs and empty texts, whole numbers of 64 bits, -0.0; with a tiny --memory, operators spill. DIR has the tables of nycflights13 as
`examples/common/data/fetch-flights` writes them; without it they are left out. --sample: fewer runs.
"""
import itertools
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import duckdb

WORDS = ["", "a", "b,c", 'say "yes"', "two\nlines", "cr\r\nlf", "Ünïcode", "漢字", " blank ", "'", "x" * 40]
BIG = [2**63 - 1, -(2**63), 2**53 + 1, 0, -1]
TYPES = {"int": "BIGINT", "big": "BIGINT", "float": "DOUBLE", "text": "VARCHAR"}
VALUES = {"int": int, "big": int, "float": float, "text": str}
KINDS = ["inner", "left", "right", "full", "semi", "anti"]
ALGORITHMS = ["auto", "hash", "sort", "broadcast"]
BUNDLED = pathlib.Path(__file__).resolve().parent.parent / "examples/common/data"
SORTS = {"BIGINT": "int", "DOUBLE": "float", "VARCHAR": "text"}


def quoted(text):
    """A field, in quotes if it needs them; NULL is one without anything."""
    if text is None:
        return ""
    if text == "" or any(c in text for c in ',"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text


def pool(draw, sort, distinct):
    """Texts of values of a column, one of which is drawn for each row; None is NULL."""
    match sort:
        case "int":
            values = [str(draw.randrange(-50, 1000)) for _ in range(distinct)]
        case "big":
            values = [str(draw.choice(BIG) if draw.random() < 0.3 else draw.randrange(-(2**62), 2**62)) for _ in range(distinct)]
        case "float":
            values = [draw.choice(["-0.0", "0.0", "1e-300", "-2.5", repr(draw.gauss(0, 1e6))]) for _ in range(distinct)]
        case _:
            values = [draw.choice(WORDS) + (str(i) if draw.random() < 0.7 else "") for i in range(distinct)]
    return [None if draw.random() < 0.1 else value for value in values]


class Table:
    """A random table: a file, and the same rows in DuckDB."""

    def __init__(self, con, folder, draw, name, rows, keys, columns):
        names = ["k1", "k2", *(column for column, _ in columns)]
        self.sorts = ["text", "int", *(sort for _, sort in columns)]
        pools = [*keys, *(pool(draw, sort, 200) for _, sort in columns)]
        texts = [[draw.choice(values) for values in pools] for _ in range(rows)]
        end, mark = draw.choice(["\n", "\r\n"]), draw.choice(["", "\ufeff"])
        self.path = folder / f"{name}.csv"
        self.path.write_bytes((mark + end.join(",".join(map(quoted, row)) for row in [names, *texts]) + end).encode())
        con.execute(f"create table {name} ({', '.join(f'{n} {TYPES[s]}' for n, s in zip(names, self.sorts))})")
        values = [[None if x is None else VALUES[s](x) for x, s in zip(row, self.sorts)] for row in texts]
        con.executemany(f"insert into {name} values ({', '.join('?' * len(names))})", values)


def rows_of(path, sorts):
    """The rows of an output, without its header. (Python's csv module does not tell whether a field was quoted.)"""
    text = path.read_bytes().decode()
    rows, row, at = [], [], 0
    while at < len(text):
        if text[at] == '"':
            field, at = "", at + 1
            while True:
                end = text.index('"', at)
                field += text[at:end]
                at = end + 1
                if text[at : at + 1] != '"':
                    break
                field, at = field + '"', at + 1
        else:
            end = min(i for i in (text.find(",", at), text.find("\n", at)) if i >= 0)
            field, at = text[at:end] or None, end
        row.append(field)
        if text[at] == "," and text[at + 1] == "\n":
            row.append(None)
            at += 1
        if text[at] == "\n":
            rows.append(row)
            row = []
        at += 1
    return [tuple(x if x is None else VALUES[s](x) for x, s in zip(row, sorts)) for row in rows[1:]]


def order(row):
    """NULL first, then by value; texts by their bytes."""
    return [(x is not None, x.encode() if isinstance(x, str) else (0 if x is None else x)) for x in row]


def close(a, b):
    """Sums of floating-point numbers are of any order."""
    return a == b or (isinstance(a, float) and isinstance(b, float) and abs(a - b) <= 1e-9 * max(1, abs(a), abs(b)))


def load(con, folder, name, table):
    """A table of nycflights13 in DuckDB."""
    times = ", types={'time_hour': 'VARCHAR'}" if name in ("flights", "weather") else ""
    con.execute(f"create table {table} as select * from read_csv('{folder / name}.csv', sample_size=-1{times})")


def joined(con, left, right, on, kind):
    """The columns of a join, names and types, and the query for its rows."""
    of = [dict(con.execute(f"select column_name, column_type from (describe {table})").fetchall()) for table in (left, right)]
    columns, wanted = {}, []
    for name in on:
        columns[name] = of[0][name]
        wanted.append(f"l.{name}" if kind in ("semi", "anti") else f"coalesce(l.{name}, r.{name}) as {name}")
    for letter, side in zip("lr", of[:1] if kind in ("semi", "anti") else of):
        for name in (name for name in side if name not in on):
            own = name + "_right" if name in columns else name
            columns[own] = side[name]
            wanted.append(f"{letter}.{name} as {own}")
    match = " and ".join(f"l.{name} = r.{name}" for name in on)
    return columns, f"select {', '.join(wanted)} from {left} l {kind} join {right} r on {match}"


def differing(con, path, columns, query, in_order):
    """How many rows differ between an output and the query's result. DuckDB compares: they are many."""
    order = ", ".join(f"{name} nulls first" for name in columns)
    number = "row_number() over () as n, " if in_order else ""
    place = f"row_number() over (order by {order}) as n, " if in_order else ""
    con.execute(
        f"create or replace temp table got as select {number}* from read_csv('{path}', columns={columns}, "
        "header=true, auto_detect=false, delim=',', quote='\"', escape='\"', allow_quoted_nulls=false)")
    con.execute(f"create or replace temp table want as select {place}* from ({query})")
    got, want, other = con.execute(
        "select (select count(*) from got), (select count(*) from want), (select count(*) from (from got except all from want))").fetchone()
    return other or abs(got - want)


def main():
    words = sys.argv[1:]
    sample = words[:1] == ["--sample"]
    words = words[1:] if sample else words
    whole = pathlib.Path(words[1]) if words[:1] == ["--flights"] else None
    groupby, join, *launcher = words[2:] if whole else words
    draw = random.Random(20261127)
    con = duckdb.connect()
    checked = failed = 0

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        keys = [pool(draw, "text", 60), pool(draw, "int", 6)]
        left = Table(con, folder, draw, "l", 2500, keys, [("v", "big"), ("f", "float"), ("t", "text")])
        right = Table(con, folder, draw, "r", 700, keys, [("v", "text"), ("w", "float")])
        out = folder / "out.csv"

        def run(what, ranks, program, options):
            """Runs a program; whether it went well."""
            nonlocal checked, failed
            command = [w.replace("{n}", str(ranks)) for w in launcher] + [program, *map(str, options), "--output", str(out), "--json", "--quiet"]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
            checked += 1
            if done.returncode:
                failed += 1
                print(f"FAILED {what}, {ranks} ranks: exit {done.returncode}: {done.stderr.strip()}")
                return False
            told = json.loads(done.stdout.splitlines()[-1])
            if "--memory" in options and not told["spilled_bytes"]:
                failed += 1
                print(f"FAILED {what}, {ranks} ranks: nothing went to disk")
                return False
            return True

        def check(what, ranks, program, options, sorts, query, ordered):
            """Runs a program and compares; `ordered`: so many columns are what rows are in order of."""
            nonlocal failed
            if not run(what, ranks, program, options):
                return
            got, want = rows_of(out, sorts), con.execute(query).fetchall()
            in_order = all(order(a[:ordered]) <= order(b[:ordered]) for a, b in zip(got, got[1:]))
            a, b = sorted(got, key=order), sorted(want, key=order)
            if len(a) != len(b) or not all(len(x) == len(y) and all(map(close, x, y)) for x, y in zip(a, b)) or not in_order:
                failed += 1
                differ = next(((x, y) for x, y in zip(a, b) if not all(map(close, x, y))), None)
                print(f"FAILED {what}, {ranks} ranks: {len(a)} rows, not {len(b)}; in order: {in_order}; ours and DuckDB's: {differ}")

        def check_groups(table, ranks, options, keys, aggregates):
            """As `check`, of groups of a table of nycflights13. `aggregates` is as on the command line."""
            wanted = [word.replace("mean", "avg").split(":") for word in aggregates.split(",")]
            wanted = keys + [f"{function}({column[0] if column else '*'})" for function, *column in wanted]
            query = f"select {', '.join(wanted)} from {table} group by {', '.join(keys)}"
            types = [row[1] for row in con.execute(f"describe {query}").fetchall()]
            sorts = [SORTS.get(name, "int") for name in types]  # sums of whole numbers have 128 bits
            check(f"groupby {table} {keys}", ranks, groupby, options, sorts, query, len(keys))

        def check_join(left, right, ranks, options, on, kind):
            """Runs a join of tables of nycflights13 and compares."""
            nonlocal failed
            what = f"join {left} {right} {on} {kind} {options}"
            if not run(what, ranks, join, options):
                return
            columns, query = joined(con, left, right, on, kind)
            with out.open() as file:
                header = file.readline().rstrip("\n")
            rows = differing(con, out, columns, query, "--sorted" in options)
            if rows or header != ",".join(columns):
                failed += 1
                print(f"FAILED {what}, {ranks} ranks: {rows} rows differ; {header}")

        for name in ("flights", "planes"):
            load(con, BUNDLED, name, f"bundled_{name}")
        bundled = "count,count:dep_time,mean:dep_delay,max:dep_delay,sum:distance"
        for ranks in (1, 2, 3):
            check_groups("bundled_flights", ranks, [], ["carrier"], bundled)
            check_join("bundled_flights", "bundled_planes", ranks, [], ["tailnum"], "inner")

        if whole:
            for name in ("flights", "weather", "planes", "airlines"):
                load(con, whole, name, name)
            day = "select * from flights where month = 2 and day = 9"
            cut = {"flights": day, "planes": f"select * from planes where tailnum in (select tailnum from ({day}))", "airlines": "from airlines"}
            for name, query in cut.items():
                columns = dict(con.execute(f"select column_name, column_type from (describe {name})").fetchall())
                checked += 1
                if differing(con, BUNDLED / f"{name}.csv", columns, query, False):
                    failed += 1
                    print(f"FAILED {name}.csv is not what examples/common/data/README.md says")

            delays = "count,count:dep_delay,sum:dep_delay,mean:arr_delay,min:dep_time,max:air_time,sum:distance,min:tailnum,max:dest"
            measured = "count,count:wind_gust,mean:temp,min:dewp,max:wind_speed,sum:precip,mean:pressure,max:time_hour"
            made = "count,count:speed,mean:year,min:year,max:seats,sum:engines,min:model,max:engine"
            groups = [("flights", keys, delays) for keys in (
                ["carrier"], ["origin"], ["month"], ["year"], ["tailnum"], ["dep_delay"], ["dest", "origin"], ["time_hour"], ["month", "day", "carrier"])]
            groups += [("weather", keys, measured) for keys in (["origin"], ["month", "origin"], ["wind_dir"])]
            groups += [("planes", keys, made) for keys in (["manufacturer"], ["year", "type"], ["speed"])]
            for table, keys, aggregates in groups[::4] if sample else groups[::2]:
                options = ["--input", whole / f"{table}.csv", "--key", ",".join(keys), "--agg", aggregates]
                check_groups(table, draw.choice([1, 2, 3]), options, keys, aggregates)

            # (Right rows without a key: flights at the right.)
            joins = [("planes", "flights", ["tailnum"], kind) for kind in ("right", "full", "anti")]
            joins += [("flights", "weather", ["time_hour"], kind) for kind in ("semi", "anti")]
            for i, (other, on) in enumerate((("planes", ["tailnum"]), ("airlines", ["carrier"]), ("weather", ["origin", "time_hour"]))):
                joins += [("flights", other, on, kind) for kind in KINDS[i % 2 :: 2]]
            for one, other, on, kind in joins[::4] if sample else joins:
                algorithm = draw.choice(ALGORITHMS[:3] if kind in ("right", "full") else ALGORITHMS)
                options = ["--left", whole / f"{one}.csv", "--right", whole / f"{other}.csv", "--on", ",".join(on), "--kind", kind]
                small = kind in ("semi", "anti")  # what may be small need not go to disk
                orders = [[], [], ["--sorted"], ["--sorted"] if small else ["--sorted", "--memory", "16MiB"]]
                options += ["--algorithm", algorithm, *draw.choice(orders)]
                check_join(one, other, draw.choice([1, 2, 3]), options, on, kind)

        for memory in ([], ["--memory", "24KiB"]):
            aggregates = "count,count:v,min:v,max:t,sum:f,mean:f"
            query = "select k1, k2, count(*), count(v), min(v), max(t), sum(f), avg(f) from l group by all"
            options = ["--input", left.path, "--key", "k1,k2", "--agg", aggregates, *memory]
            check(f"groupby {memory}", draw.choice([1, 2, 3]), groupby, options, ["text", "int", "int", "int", "big", "text", "float", "float"], query, 2)
            for kind, algorithm, in_order in itertools.product(KINDS, ALGORITHMS, [False, True]):
                if algorithm == "broadcast" and kind in ("right", "full"):
                    continue
                if sample and (in_order, algorithm) not in ((True, "auto"), (False, "sort")):
                    continue
                options = ["--left", left.path, "--right", right.path, "--on", "k1,k2", "--kind", kind, "--algorithm", algorithm, *memory]
                if kind in ("semi", "anti"):
                    word = "not exists" if kind == "anti" else "exists"
                    sorts, query = left.sorts, f"select * from l where {word} (select 1 from r where r.k1 = l.k1 and r.k2 = l.k2)"
                else:
                    sorts = left.sorts + right.sorts[2:]
                    query = (f"select coalesce(l.k1, r.k1), coalesce(l.k2, r.k2), l.v, f, t, r.v, w "
                             f"from l {kind} join r on l.k1 = r.k1 and l.k2 = r.k2")
                what = f"join {kind} {algorithm} {'--sorted ' if in_order else ''}{memory}"
                check(what, draw.choice([1, 2, 3]), join, options + (["--sorted"] if in_order else []), sorts, query, len(sorts) if in_order else 0)
    print(f"{checked - failed} of {checked} agree with DuckDB")
    sys.exit(1 if failed or not checked else 0)


if __name__ == "__main__":
    main()
