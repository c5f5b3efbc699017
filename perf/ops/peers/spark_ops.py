"""The workloads of perf/ops in Spark (DataFrames in one JVM, no Python in the job), from Parquet to Parquet, because it has no fast way to read fixed
binary records. Inputs become Parquet before the time begins (and stay beside them, `IN.*.parquet`), and results our files after it has ended.

The job runs twice in one session (OPS_SPARK_RUNS): `first`, and `warm`, the fastest of the others; `total` is the less of both. `start` is the imports
and the JVM's start, `process` that and the first. Java is found as Spark does, by JAVA_HOME or PATH. OPS_SPARK_MEMORY is the heap (8g), OPS_SPARK_CONF
more settings, `name=value` with blanks between."""
import glob
import os
import shutil
import sys
import time

began = time.perf_counter()

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

imports = time.perf_counter() - began

import common

RUNS = int(os.environ.get("OPS_SPARK_RUNS", "2"))
TOP = 1 << 63


# ---- before and after the time: our binary files to Parquet, and back ----
def binary(rows):
    """Rows of bytes as a column: their offsets are all the same apart."""
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * np.int32(rows.shape[1])
    return pa.Array.from_buffers(pa.binary(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(rows))])


def keys_in(words):
    # So that signed integers order as the unsigned ones.
    return {"key": (words[:, 0] ^ np.uint64(TOP)).view("<i8")}


def pairs_in(words):
    return {"key": np.ascontiguousarray(words[:, 0]).view("<i8"), "value": np.ascontiguousarray(words[:, 1]).view("<f8")}


def rows_in(words):
    return {"key": np.ascontiguousarray(words[:, 0]).view("<i8"), "value": np.ascontiguousarray(words[:, 1]).view("<i8")}


def records_in(rows):
    return {"key": binary(rows[:, :10]), "value": binary(rows[:, 10:])}


def parquet(path, dtype, width, columns):
    """The file as Parquet, made if it is not there yet: plain, uncompressed, row groups of about 32 MiB."""
    made = f"{path}.{columns.__name__}.parquet"
    if os.path.exists(made) and os.path.getmtime(made) >= os.path.getmtime(path):
        return made
    row = np.dtype(dtype).itemsize * width
    rows = np.memmap(path, dtype=dtype, mode="r").reshape(-1, width)
    group, writer = (32 << 20) // row, None
    for at in range(0, len(rows), group):
        table = pa.table(columns(rows[at : at + group]))
        writer = writer or pq.ParquetWriter(f"{made}.part", table.schema, compression="none", use_dictionary=False, write_statistics=False)
        writer.write_table(table, row_group_size=group)
    writer.close()
    os.rename(f"{made}.part", made)
    return made


def tables(path):
    """The result's parts in the order of their names, which is the order of a sort."""
    for part in sorted(glob.glob(os.path.join(path, "part-*.parquet"))):
        yield pq.read_table(part)


def fixed(column, width):
    chunks = []
    for chunk in column.chunks:
        offsets = np.frombuffer(chunk.buffers()[1], dtype=np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        assert np.all(np.diff(offsets) == width), "another length"
        chunks.append(np.frombuffer(chunk.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]].reshape(-1, width))
    return np.concatenate(chunks)


def words_out(path, out, *columns, flip=0):
    with open(out, "wb") as f:
        for table in tables(path):
            rows = np.empty((len(table), len(columns)), dtype="<u8")
            for i, name in enumerate(columns):
                rows[:, i] = table[name].to_numpy().view("<u8")
            rows[:, 0] ^= np.uint64(flip)
            rows.tofile(f)


def keys_out(path, out, column):
    words_out(path, out, column, flip=TOP)


def records_out(path, out):
    with open(out, "wb") as f:
        for table in tables(path):
            if len(table):
                np.hstack([fixed(table["key"], 10), fixed(table["value"], 90)]).tofile(f)


def lines_out(path, out):
    with open(out, "wb") as f:
        for table in tables(path):
            f.writelines(b"%s\t%d\n" % line for line in zip(table["word"].cast(pa.binary()).to_pylist(), table["n"].to_pylist()))


# ---- the jobs ----
def session(threads, folder):
    settings = {
        "spark.driver.memory": os.environ.get("OPS_SPARK_MEMORY", "8g"),
        "spark.driver.host": "localhost",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": "-XX:+UseParallelGC",
        "spark.local.dir": folder,
        "spark.sql.warehouse.dir": folder,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.shuffle.partitions": str(2 * threads),
        "spark.sql.adaptive.enabled": "true",
        # Writing without what random numbers do not gain from, and without Hadoop's checksum file beside each.
        "spark.sql.parquet.compression.codec": "none",
        "spark.hadoop.parquet.enable.dictionary": "false",
        "spark.hadoop.parquet.page.write-checksum.enabled": "false",
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        **dict(setting.split("=", 1) for setting in os.environ.get("OPS_SPARK_CONF", "").split()),
    }
    builder = SparkSession.builder.master(f"local[{threads}]").appName("ops")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def write(frame, out):
    frame.write.mode("overwrite").parquet(out)


def groupby(spark, path, out):
    write(spark.read.parquet(path).groupBy("key").agg(F.sum("value").alias("sum")), out)


def join(spark, left, right, out, kind, way=None):
    l = spark.read.parquet(left).withColumnRenamed("value", "l")
    r = spark.read.parquet(right).withColumnRenamed("value", "r")
    if way == "hash":
        r = r.hint("shuffle_hash")
    got = l.join(r, "key", kind)
    if kind == "full":
        got = got.fillna(-1, ["l", "r"])  # as unsigned 2^64 - 1
    write(got, out)


def wordcount(spark, path, out, words):
    text = spark.read.text(path)
    each = F.split("value", common.BETWEEN[words])
    write(text.select(F.explode(each).alias("word")).where("word <> ''").groupBy("word").agg(F.count("*").alias("n")), out)


def terasort(spark, path, out):
    write(spark.read.parquet(path).orderBy("key"), out)


def sort(spark, path, out):
    write(spark.read.parquet(path).orderBy("key"), out)


def end(spark):
    """The JVM as well: its heap is not there any more when the result is checked."""
    jvm = spark.sparkContext._gateway.proc
    spark.stop()
    jvm.stdin.close()
    jvm.wait(60)


def main():
    """`PROGRAM -w THREADS groupby IN OUT | join LEFT RIGHT OUT inner|full [hash] | wordcount IN OUT alnum|space | terasort IN OUT | sort IN OUT`"""
    if len(sys.argv) < 6 or sys.argv[1] != "-w" or RUNS < 2:
        sys.exit(f"usage: {main.__doc__}")
    threads, what, words = int(sys.argv[2]), sys.argv[3], sys.argv[4:]
    files = 2 if what == "join" else 1
    given, out, kind = [os.path.abspath(path) for path in words[:files]], os.path.abspath(words[files]), words[files + 1 :]
    inputs = {"groupby": ("<u8", 2, pairs_in), "join": ("<u8", 2, rows_in), "terasort": ("u1", common.RECORD, records_in), "sort": ("<u8", 1, keys_in)}
    paths = [parquet(path, *inputs[what]) for path in given] if what in inputs else given
    run = {"groupby": groupby, "join": join, "wordcount": wordcount, "terasort": terasort, "sort": sort}[what]
    parts, local = f"{out}.parquet", f"{out}.local"
    clock = common.Clock()
    spark = session(threads, local)
    clock.phase("start")
    times = []
    for _ in range(RUNS):
        shutil.rmtree(parts, ignore_errors=True)
        began = time.perf_counter()
        run(spark, *paths, parts, *kind)
        times.append(time.perf_counter() - began)
    end(spark)
    shutil.rmtree(local, ignore_errors=True)
    start, first, warm = imports + clock.seconds["start"], times[0], min(times[1:])
    seconds = {"start": start, "first": first, "warm": warm, "process": start + first, "total": min(first, warm)}
    back = {"groupby": (words_out, "key", "sum"), "join": (words_out, "key", "l", "r"), "wordcount": (lines_out,), "terasort": (records_out,), "sort": (keys_out, "key")}
    how, *columns = back[what]
    how(parts, out, *columns)
    shutil.rmtree(parts)
    common.tell(f"spark {pyspark.__version__}", threads, what, words[: files + 2], seconds, out)


if __name__ == "__main__":
    main()
