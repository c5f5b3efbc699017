"""scikit-learn's Lloyd for `run`: FILE.npy K ITERATIONS THREADS; prints JSON with seconds per iteration and inertia."""
import json, os, sys, time, warnings

file, k, iterations, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = threads
import numpy
from sklearn.cluster import KMeans

warnings.filterwarnings("ignore")
x = numpy.load(file)


def fit(n):
    start = time.perf_counter()
    model = KMeans(k, init=x[:k], n_init=1, max_iter=n, tol=0, algorithm="lloyd", copy_x=False).fit(x)
    return time.perf_counter() - start, model


fit(1)
one, _ = fit(1)
many, model = fit(iterations + 1)
# The difference leaves out checks and copies before the first iteration.
print(json.dumps({"mean": (many - one) / max(model.n_iter_ - 1, 1), "inertia": float(model.inertia_)}))
