"""The workloads of perf/ops in Polars (lazy, its streaming engine): `read` is the binary file to columns, `compute` the query alone, `write` its
columns to the file. For terasort Polars sorts the keys with the records' numbers, numpy gathers the records."""
import os
import sys

if len(sys.argv) > 2 and sys.argv[1] == "-w":
    os.environ["POLARS_MAX_THREADS"] = sys.argv[2]  # it is read once, when Polars is loaded

import numpy as np
import polars as pl

import common

ENGINE = os.environ.get("OPS_POLARS_ENGINE", "streaming")


def groupby(clock, threads, path, out):
    key, value = common.load_columns(path, 2)
    frame = pl.DataFrame({"key": key, "value": value.view("<f8")})
    clock.phase("read")
    got = frame.lazy().group_by("key").agg(pl.col("value").sum()).collect(engine=ENGINE)
    clock.phase("compute")
    common.write_columns(out, [got["key"].to_numpy(), got["value"].to_numpy()])
    clock.phase("write")


def join(clock, threads, left, right, out, kind):
    sides = [common.load_columns(path, 2) for path in (left, right)]
    l, r = (pl.DataFrame({"key": key, name: value}) for name, (key, value) in zip("lr", sides))
    clock.phase("read")
    query = l.lazy().join(r.lazy(), on="key", how=kind, coalesce=True)
    if kind == "full":
        query = query.with_columns(pl.col("l", "r").fill_null(pl.lit(int(common.NONE), dtype=pl.UInt64)))
    got = query.collect(engine=ENGINE)
    clock.phase("compute")
    common.write_columns(out, [got[c].to_numpy() for c in ("key", "l", "r")])
    clock.phase("write")


def wordcount(clock, threads, path, out, words):
    frame = pl.DataFrame({"text": common.load_words(path)})
    clock.phase("read")
    query = frame.lazy().select(pl.col("text").str.extract_all(common.WORDS[words]).explode().alias("word")).drop_nulls()
    got = query.group_by("word").agg(pl.len().alias("n")).collect(engine=ENGINE)
    clock.phase("compute")
    got.write_csv(out, separator="\t", include_header=False, quote_style="never")
    clock.phase("write")


def terasort(clock, threads, path, out):
    head, tail, records = common.load_records(path)
    frame = pl.DataFrame({"head": head, "tail": tail, "i": np.arange(len(head), dtype=np.uint32)})
    clock.phase("read")
    order = frame.lazy().sort("head", "tail", "i").select("i").collect(engine=ENGINE)["i"].to_numpy()
    clock.phase("compute")
    common.write_records(out, records, order)
    clock.phase("write")


def sort(clock, threads, path, out):
    frame = pl.DataFrame({"key": np.fromfile(path, dtype="<u8")})
    clock.phase("read")
    got = frame.lazy().sort("key").collect(engine=ENGINE)
    clock.phase("compute")
    got["key"].to_numpy().tofile(out)
    clock.phase("write")


if __name__ == "__main__":
    common.main(f"polars {pl.__version__}", {"groupby": groupby, "join": join, "wordcount": wordcount, "terasort": terasort, "sort": sort})
