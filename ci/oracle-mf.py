#!/usr/bin/env python3
"""Matrix factorisation against a reference in numpy: as good on what is held out, and files that predict what the summary says.

usage: oracle-mf.py [--ratings FILE] MF [LAUNCHER ...]

The reference is SGD of a biased matrix factorisation as Funk and Koren describe it and Surprise's SVD does it: one rating after the other,
in a new random order in each epoch, in double precision, with the same factors, epochs, learning rate, regularisation and split. The
program's error on what is held out may be at most 1.01 times as large. FILE (userId,movieId,rating) is used besides synthetic
ratings: target/movielens.csv of `examples/mf/fetch-movielens`. MF is the program. LAUNCHER words are put before it, `{n}` in them being the
number of ranks, which is then 1, 2 and 3. Needs numpy. What the reference says is kept below target/oracle-mf for the next run.
"""
import csv
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

KEPT = pathlib.Path(__file__).resolve().parent.parent / "target/oracle-mf"
M64 = (1 << 64) - 1


def mix(x):
    """SplitMix64's finaliser, as examples/common/random.rs."""
    x = (x + 0x9E3779B97F4A7C15) & M64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & M64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & M64
    return x ^ (x >> 31)


def at(seed, stream, index):
    return mix(mix(mix(seed) ^ stream) ^ index)


def name_hash(name):
    """As examples/common/names.rs."""
    bytes_ = name.encode()
    h = mix(len(bytes_))
    whole = len(bytes_) // 8 * 8
    for i in range(0, whole, 8):
        h = mix(h ^ int.from_bytes(bytes_[i : i + 8], "little"))
    return mix(h ^ int.from_bytes(bytes_[whole:], "little"))


def held_out(ratings, share, seed):
    """The split, written down a second time from its description."""
    draw = at(seed, 0x7E57, 0)
    known = {name: name_hash(name) for user, item, _ in ratings for name in (user, item)}
    limit = int(share * 2**64)
    return np.array([at(draw, known[user], known[item]) < limit for user, item, _ in ratings])


def reference(users, items, values, test, factors, epochs, rate, decay):
    """Root mean square error on what is held out."""
    key = hashlib.sha256(repr((factors, epochs, rate, decay, 1)).encode() + users.tobytes() + items.tobytes() + values.tobytes() + test.tobytes())
    kept = KEPT / key.hexdigest()
    if kept.exists():
        return float(kept.read_text())
    random = np.random.default_rng(1)
    u, i, r = users[~test], items[~test], values[~test]
    mean = r.mean()
    p, q = (random.normal(0, 0.1, (side.max() + 1, factors)) for side in (users, items))
    b, c = np.zeros(len(p)), np.zeros(len(q))
    p[np.setdiff1d(np.arange(len(p)), u)] = 0
    q[np.setdiff1d(np.arange(len(q)), i)] = 0
    for _ in range(epochs):
        for user, item, value in zip(*(x[order].tolist() for order in [random.permutation(len(r))] for x in (u, i, r))):
            pu, qi = p[user], q[item]
            error = value - mean - b[user] - c[item] - pu.dot(qi)
            b[user] += rate * (error - decay * b[user])
            c[item] += rate * (error - decay * c[item])
            step = rate * error
            p[user], q[item] = pu + (step * qi - rate * decay * pu), qi + (step * pu - rate * decay * qi)
    guess = mean + b[users[test]] + c[items[test]] + (p[users[test]] * q[items[test]]).sum(axis=1)
    rmse = float(np.sqrt(((values[test] - guess) ** 2).mean()))
    KEPT.mkdir(parents=True, exist_ok=True)
    kept.write_text(repr(rmse))
    return rmse


def synthetic(users, items, n):
    random = np.random.default_rng(7)
    p, q = random.normal(0, 0.46, (users, 4)), random.normal(0, 0.46, (items, 4))
    b, c = random.normal(0, 0.4, users), random.normal(0, 0.4, items)
    for _ in range(n):
        u, i = int(users * random.random() ** 2), int(items * random.random() ** 2)
        value = 3.5 + b[u] + c[i] + p[u] @ q[i] + random.normal(0, 0.5)
        yield f"user {u}", f"item, {i}" if i % 3 else str(i), round(value * 2) / 2


def model(path):
    with open(path, newline="") as f:
        rows = csv.reader(f)
        next(rows)
        return {row[0]: np.array(row[1:], dtype=float) for row in rows}


def main():
    args, file = sys.argv[1:], None
    if args[0] == "--ratings":
        file, args = pathlib.Path(args[1]), args[2:]
    program, launcher = pathlib.Path(args[0]).resolve(), args[1:]
    cases = [("synthetic", list(synthetic(200, 150, 12_000)), 8, 20, 0.02, 0.08, 0.2, 5)]
    if file:
        with open(file, newline="") as f:
            rows = csv.reader(f)
            next(rows)
            movielens = [(user, item, float(value)) for user, item, value in rows]
        cases.append(("MovieLens", movielens, 20, 15, 0.01, 0.05, 0.1, 1))
    failed = runs = 0
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        for name, ratings, factors, epochs, rate, decay, share, seed in cases:
            with open(tmp / "ratings.csv", "w", newline="") as f:
                csv.writer(f).writerows([("user", "item", "rating"), *ratings])
            test = held_out(ratings, share, seed)
            numbers = [np.unique(np.array(side), return_inverse=True)[1] for side in list(zip(*ratings))[:2]]
            values = np.array([value for _, _, value in ratings])
            want = reference(*numbers, values, test, factors, epochs, rate, decay)
            mean = values[~test].mean()
            for ranks in [1, 2, 3] if launcher else [1]:
                words = [w.replace("{n}", str(ranks)) for w in launcher]
                words += [program, "--input", tmp / "ratings.csv", "--rank", factors, "--epochs", epochs, "--learning-rate", rate]
                words += ["--regularisation", decay, "--test", share, "--seed", seed, "--output", tmp / "model", "--json", "--quiet"]
                out = subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, timeout=120)
                runs += 1
                what = f"{name}, {ranks} ranks"
                if out.returncode != 0:
                    print(f"FAILED {what}: exit code {out.returncode}")
                    failed += 1
                    continue
                said = json.loads(out.stdout)
                users, items = model(tmp / "model/users.csv"), model(tmp / "model/items.csv")
                errors = []
                for (user, item, value), out_of in zip(ratings, test):
                    if out_of:
                        p, q = users[user], items[item]
                        errors.append(value - said["mean"] - p[0] - q[0] - p[1:] @ q[1:])
                got = float(np.sqrt(np.mean(np.square(errors))))
                checks = {
                    f"RMSE {got:.4f}, the reference has {want:.4f}": got <= 1.01 * want,
                    f"the files predict with {got}, said {said['test_rmse']}": abs(got / said["test_rmse"] - 1) <= 1e-5,
                    f"{said['held_out']} held out, not {test.sum()}": said["held_out"] == test.sum(),
                    f"{said['ratings']} ratings, not {(~test).sum()}": said["ratings"] == (~test).sum(),
                    f"mean {said['mean']}, not {mean}": abs(said["mean"] - mean) <= 1e-9,
                    "users or items": users.keys() == {r[0] for r in ratings} and items.keys() == {r[1] for r in ratings},
                    f"ranks: {said['ranks']}": said["ranks"] == ranks,
                }
                wrong = [text for text, good in checks.items() if not good]
                failed += bool(wrong)
                fine = f"RMSE {got:.4f}, {got / want:.4f} times the reference's {want:.4f}"
                print(f"{'FAILED' if wrong else 'ok    '} {what}: {'; '.join(wrong) or fine}, {said['updates_per_second'] / 1e6:.1f} million updates/s")
    print(f"{runs - failed} of {runs} runs are as good as the reference")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
