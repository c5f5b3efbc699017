"""What ci/oracle-groupby.py and ci/oracle-join.py share: random CSV files, runs of a program, and DuckDB's answer."""
import csv
import pathlib
import random
import subprocess

WORDS = ["", "a", "b,c", 'say "yes"', "two\nlines", "cr\r\nlf", "Ünïcode", "漢字", " blank ", "'", "x" * 40]
BIG = [2**63 - 1, -(2**63), 2**53 + 1, 0, -1]


def quoted(text, null, delimiter):
    """A field, in quotes if it needs them."""
    if text is None:
        return null
    if text in ("", null) or any(c in text for c in (delimiter, '"', "\n", "\r")):
        return '"' + text.replace('"', '""') + '"'
    return text


def write(path, names, rows, null="", delimiter=",", end="\n", mark="", last=True):
    lines = [delimiter.join(quoted(x, null, delimiter) for x in row) for row in [names, *rows]]
    path.write_bytes((mark + end.join(lines) + (end if last else "")).encode())


def column(draw, sort, distinct):
    """Texts of values of a column, one of which is drawn for each row; None is NULL."""
    match sort:
        case "int":
            values = [str(draw.randrange(-50, 1000)) for _ in range(distinct)]
        case "big":
            values = [str(draw.choice(BIG) if draw.random() < 0.3 else draw.randrange(-(2**62), 2**62)) for _ in range(distinct)]
        case "float":
            values = [draw.choice(["-0.0", "0.0", "1e-300", "-2.5", repr(draw.gauss(0, 1e6))]) for _ in range(distinct)]
        case "text":
            values = [draw.choice(WORDS) + (str(i) if draw.random() < 0.7 else "") for i in range(distinct)]
    return [None if draw.random() < 0.1 else value for value in values]


TYPES = {"int": "BIGINT", "big": "BIGINT", "float": "DOUBLE", "text": "VARCHAR"}


def load(con, table, path, names, sorts, null="", delimiter=","):
    """Into DuckDB, with the rows as Python's csv module reads them, so that its own guesses play no part."""
    kinds = ", ".join(f'"{name}" {TYPES[sort]}' for name, sort in zip(names, sorts))
    con.execute(f'CREATE OR REPLACE TABLE "{table}" ({kinds})')
    options = f"header=true, auto_detect=false, delim='{delimiter}', quote='\"', escape='\"', nullstr='{null}', allow_quoted_nulls=false, parallel=false, new_line='\\n'"
    columns = ", ".join(f"'{name}': 'VARCHAR'" for name in names)
    casts = ", ".join(f'CAST("{name}" AS {TYPES[sort]})' for name, sort in zip(names, sorts))
    con.execute(f"INSERT INTO \"{table}\" SELECT {casts} FROM read_csv('{path}', {options}, columns={{{columns}}})")


def run(launcher, ranks, program, options):
    words = [w.replace("{n}", str(ranks)) for w in launcher] + [program, *options, "--json", "--quiet"]
    return subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, timeout=300)


def rows_of(path, sorts, null="", delimiter=","):
    """The rows of an output, with values as DuckDB has them. (Python's csv module does not tell quoted fields, so this is a reader of its own.)"""
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
            end = min(i for i in (text.find(delimiter, at), text.find("\n", at)) if i >= 0)
            field, at = text[at:end], end
            field = None if field == null else field
        row.append(field)
        if text[at] == "\n":
            rows.append(row)
            row = []
        else:
            assert text[at] == delimiter, text[at - 20 : at + 20]
            if text[at + 1] == "\n":
                row.append(None if null == "" else "")
                rows.append(row)
                row, at = [], at + 1
        at += 1
    convert = {"int": int, "big": int, "float": float, "text": str}
    head, *rest = rows
    return head, [tuple(x if x is None else convert[s](x) for x, s in zip(row, sorts)) for row in rest]


def order(row):
    """NULL first, then by value; texts by their bytes."""
    return [(x is not None, x.encode() if isinstance(x, str) else (0 if x is None else x)) for x in row]


def take_sample(words):
    """Whether the first word is --sample, and the words without it."""
    return (True, words[1:]) if words[:1] == ["--sample"] else (False, words)


def seed():
    return random.Random(20261127)


__all__ = ["csv", "pathlib"]
