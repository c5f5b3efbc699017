#!/usr/bin/env python3
"""k-means against scikit-learn: same first centroids, same labels, inertia equal to 1e-9 (f64); in every computation model.

usage: oracle-kmeans.py [--sample] KMEANS [LAUNCHER ...]

KMEANS is the program. LAUNCHER words are put before it, `{n}` in them being the number of ranks, which is then 1, 2, 3, 5
and 7: `oracle-kmeans.py target/release/kmeans target/release/aeolian run -n {n}`. Needs scikit-learn. With --sample a third of
the runs: 1, 3 and 7 ranks, and all models on 3 only.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

MODELS = ["allreduce", "broadcast-reduce", "push-pull", "regroup-allgather", "rotation"]
DIGITS = pathlib.Path(__file__).parent.parent / "examples/kmeans/data/digits.csv"


def cases():
    """name, points, first centroids, tolerance"""
    rng = np.random.default_rng(20261123)
    digits = np.loadtxt(DIGITS, delimiter=",")
    yield "digits", digits, digits[:10], 1e-4
    yield "digits, to the end", digits, digits[rng.choice(len(digits), 25, replace=False)], 0.0
    centres = rng.uniform(-50, 50, (30, 7))
    far = centres[rng.integers(30, size=20_000)] + rng.normal(size=(20_000, 7)) + 1e4
    yield "far from the origin", far, far[rng.choice(len(far), 30, replace=False)], 1e-4
    flat = rng.uniform(size=(5_000, 2))
    empty = np.vstack([flat[:8], [[1e3, 1e3]]])
    yield "an empty cluster", flat, empty, 1e-4
    line = rng.exponential(size=(3_000, 1))
    yield "one column", line, line[:5], 1e-6
    # Large enough that the kernel leaves out centroids: by a grid in a plane, by floors in long rows.
    plane = rng.uniform(size=(60_000, 2))
    yield "a plane, pruned", plane, plane[rng.choice(len(plane), 60, replace=False)], 1e-4
    centres = rng.uniform(-5, 5, (40, 16))
    rows = centres[rng.integers(40, size=40_000)] + rng.normal(size=(40_000, 16))
    yield "long rows, pruned", rows, rows[rng.choice(len(rows), 40, replace=False)], 1e-4


def main():
    sample = sys.argv[1] == "--sample"
    program, *launcher = sys.argv[1 + sample :]
    program = pathlib.Path(program).resolve()
    failed = runs = 0
    warnings.simplefilter("ignore", ConvergenceWarning)
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        for name, points, init, tolerance in cases():
            want = KMeans(len(init), init=init, n_init=1, max_iter=300, tol=tolerance, algorithm="lloyd").fit(points)
            np.save(tmp / "init.npy", init)
            np.save(tmp / "x.npy", points)
            np.savetxt(tmp / "x.csv", points, delimiter=",", fmt="%.17g")
            for ranks in ([1, 3, 7] if sample else [1, 2, 3, 5, 7]) if launcher else [1]:
                # The default model on both formats, the others on one; the large cases are about the kernel, so on few ranks.
                every = ranks == 3 if sample else ranks <= 3 or "pruned" not in name
                models = MODELS if every else MODELS[:1]
                for file, model in [("x.csv", MODELS[0]), *(("x.npy", model) for model in models)]:
                    words = [w.replace("{n}", str(ranks)) for w in launcher]
                    words += [program, "--input", tmp / file, "--init", tmp / "init.npy", "--tolerance", tolerance]
                    words += ["--iterations", 300, "--labels", tmp / "l.npy", "--output", tmp / "c.npy", "--json", "--quiet"]
                    words += ["--model", model] if model != MODELS[0] else []
                    out = subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, timeout=300)
                    runs += 1
                    what = f"{name}, {file}, {ranks} ranks, {model}"
                    if out.returncode != 0:
                        print(f"FAILED {what}: exit code {out.returncode}")
                        failed += 1
                        continue
                    got = json.loads(out.stdout)
                    labels, centroids = np.load(tmp / "l.npy"), np.load(tmp / "c.npy")
                    off = abs(got["inertia"] - want.inertia_) / want.inertia_
                    checks = {
                        f"{(labels != want.labels_).sum()} labels differ": np.array_equal(labels, want.labels_),
                        f"inertia differs by {off:.1e}": off <= 1e-9,
                        f"{got['iterations']} iterations, not {want.n_iter_}": got["iterations"] == want.n_iter_,
                        "centroids differ": np.allclose(centroids, want.cluster_centers_, rtol=1e-9, atol=1e-9),
                        f"ranks: {got['ranks']}": got["ranks"] == ranks,
                        f"model: {got['model']}": got["model"] == model,
                    }
                    wrong = [text for text, good in checks.items() if not good]
                    failed += bool(wrong)
                    print(f"{'FAILED' if wrong else 'ok    '} {what}: {'; '.join(wrong) or f'inertia off by {off:.0e}'}")
    print(f"{runs - failed} of {runs} runs agree with scikit-learn")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
