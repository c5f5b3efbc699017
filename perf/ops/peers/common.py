"""What the DuckDB, the Polars and the Spark program share: the file formats of perf/ops, checksums and the JSON line (see ../README.md)."""
import json
import sys
import time
import zlib

import numpy as np

NONE = np.uint64(2**64 - 1)
RECORD = 100


def mix(x):
    x = np.asarray(x, dtype=np.uint64)
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def total(x):
    return int(np.sum(x, dtype=np.uint64))


def sum_rows(path):
    rows = np.fromfile(path, dtype="<u8").reshape(-1, 2)
    return len(rows), total(mix(rows[:, 0] ^ mix(rows[:, 1])))


def sum_joined(path):
    rows = np.fromfile(path, dtype="<u8").reshape(-1, 3)
    return len(rows), total(mix(rows[:, 0] ^ mix(rows[:, 1] ^ mix(rows[:, 2]))))


def sum_keys(path):
    keys = np.fromfile(path, dtype="<u8")
    assert np.all(keys[1:] >= keys[:-1]), "the result is not sorted"
    return len(keys), total(mix(keys ^ mix(np.arange(len(keys), dtype=np.uint64))))


def sum_records(path):
    records = np.memmap(path, dtype=np.uint8).reshape(-1, RECORD) if np.fromfile(path, dtype=np.uint8, count=1).size else np.zeros((0, RECORD), np.uint8)
    head = np.ascontiguousarray(records[:, :8]).view(">u8").ravel()
    tail = np.ascontiguousarray(records[:, 8:10]).view(">u2").ravel()
    assert np.all((head[1:] > head[:-1]) | ((head[1:] == head[:-1]) & (tail[1:] >= tail[:-1]))), "the result is not sorted"
    h = mix(np.arange(len(records), dtype=np.uint64))
    for i in range(12):
        h = mix(h ^ np.ascontiguousarray(records[:, 8 * i : 8 * i + 8]).view("<u8").ravel())
    last = np.ascontiguousarray(records[:, 96:]).view("<u4").ravel().astype(np.uint64)
    return len(records), total(mix(h ^ last))


def sum_words(path):
    with open(path, "rb") as f:
        lines = f.read().split(b"\n")[:-1]
    words = [line.rsplit(b"\t", 1) for line in lines]
    crc = np.array([zlib.crc32(word) for word, _ in words], dtype=np.uint64)
    count = np.array([int(count) for _, count in words], dtype=np.uint64)
    return len(words), total(mix(crc ^ (count << np.uint64(32))))


class Clock:
    def __init__(self):
        self.began = self.last = time.perf_counter()
        self.seconds = {}

    def phase(self, name):
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0) + now - self.last
        self.last = now


def load_columns(path, width):
    """The file's columns, each contiguous."""
    rows = np.fromfile(path, dtype="<u8").reshape(-1, width)
    return [np.ascontiguousarray(rows[:, i]) for i in range(width)]


def load_words(path):
    """The text in pieces of whole lines, about a megabyte each, so that an engine can share them out among its threads."""
    with open(path, "rb") as f:
        text = f.read()
    pieces, at = [], 0
    while at < len(text):
        end = len(text)
        if at + (1 << 20) < end:
            end = text.find(b"\n", at + (1 << 20)) + 1 or len(text)
        pieces.append(text[at:end].decode("utf-8", "replace"))
        at = end
    return pieces


# Words as regular expressions over characters: all from U+0080 belong to words, as their bytes do.
WORDS = {"alnum": r"[0-9A-Za-z\x{80}-\x{10FFFF}]+", "space": r"[^\t-\r ]+"}
BETWEEN = {"alnum": r"[^0-9A-Za-z\x{80}-\x{10FFFF}]+", "space": r"[\t-\r ]+"}


def load_records(path):
    """Keys as the two integers that order as their bytes do, and the records."""
    records = np.fromfile(path, dtype=np.uint8).reshape(-1, RECORD)
    head = np.ascontiguousarray(records[:, :8]).view(">u8").ravel().astype(np.uint64)
    tail = np.ascontiguousarray(records[:, 8:10]).view(">u2").ravel().astype(np.uint16)
    return head, tail, records


def write_columns(path, columns):
    rows = np.empty((len(columns[0]), len(columns)), dtype="<u8")
    for i, column in enumerate(columns):
        rows[:, i] = column.view("<u8")
    rows.tofile(path)


def write_records(path, records, order, step=1 << 20):
    with open(path, "wb") as f:
        for at in range(0, len(order), step):
            np.take(records, order[at : at + step], axis=0).tofile(f)


def write_lines(path, words, counts):
    with open(path, "w", encoding="utf-8", newline="\n", buffering=1 << 20) as f:
        f.writelines(f"{word}\t{count}\n" for word, count in zip(words, counts))


def main(who, run):
    """`PROGRAM -w THREADS groupby IN OUT | join LEFT RIGHT OUT inner|full | wordcount IN OUT alnum|space | terasort IN OUT | sort IN OUT`"""
    if len(sys.argv) < 6 or sys.argv[1] != "-w":
        sys.exit(f"usage: {main.__doc__}")
    what, words = sys.argv[3], sys.argv[4:]
    clock = Clock()
    out = words[2] if what == "join" else words[1]
    run[what](clock, int(sys.argv[2]), *words)
    tell(who, int(sys.argv[2]), what, words, {**clock.seconds, "total": clock.last - clock.began}, out)


def tell(who, workers, what, words, seconds, out):
    """Prints the line of JSON, with the checksum of the file."""
    check = {"groupby": sum_rows, "join": sum_joined, "wordcount": sum_words, "terasort": sum_records, "sort": sum_keys}[what]
    rows, checksum = check(out)
    name = f"{what} {words[-1]}" if what in ("join", "wordcount") else what
    print(json.dumps({"what": name, "who": who, "workers": workers, "rows": rows, "checksum": f"{checksum:016x}",
                      "seconds": {k: round(v, 6) for k, v in seconds.items()}}))
