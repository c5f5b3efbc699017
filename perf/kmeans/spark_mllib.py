"""Spark MLlib for `run`: FILE.npy K ITERATIONS CORES; prints JSON with seconds per iteration (warm JVM) and inertia."""
import json, sys, time
import numpy
from pyspark.ml.clustering import KMeans
from pyspark.ml.functions import array_to_vector
from pyspark.sql import SparkSession
import pandas

file, k, iterations, cores = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
spark = (SparkSession.builder.master(f"local[{cores}]").config("spark.driver.memory", "8g").config("spark.ui.enabled", "false")
         .config("spark.sql.execution.arrow.pyspark.enabled", "true").getOrCreate())
x = numpy.load(file).astype("f8")
rows = spark.createDataFrame(pandas.DataFrame({"x": list(x)}))
rows = rows.select(array_to_vector("x").alias("features")).repartition(int(cores) * 2).cache()
rows.count()


def fit(n):
    start = time.perf_counter()
    model = KMeans(k=k, maxIter=n, tol=0.0, seed=1, initMode="random").fit(rows)
    return time.perf_counter() - start, model


fit(1)
one, _ = fit(1)
many, model = fit(iterations + 1)
print(json.dumps({"mean": (many - one) / iterations, "inertia": model.summary.trainingCost}))
spark.stop()
