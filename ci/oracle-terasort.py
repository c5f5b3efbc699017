#!/usr/bin/env python3
"""teragen, terasort and teravalidate against numpy and zlib: the same bytes, in the same order, with the same checksum.

usage: oracle-terasort.py [--sample] [--valsort VALSORT] DIR [LAUNCHER ...]

DIR has the three programs. LAUNCHER words are put before them, `{n}` in them being the number of ranks, which is then 1, 2 and 3:
`oracle-terasort.py target/release target/release/aeolian run -n {n}`. With --sample only a few of the runs. With --valsort that
program, of the gensort package, judges the results too. Needs numpy.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import zlib

import numpy as np

SIZE, KEY = 100, 10
M128 = (1 << 128) - 1


def step(x):
    return (x * 0x2360ED051FC65DA44385DF649FCCF645 + 0x4A696D47726179524950202020202001) & M128


def printable(x):
    high, low, out = x >> 64, x & ((1 << 64) - 1), []
    for _ in range(8):
        out.append(32 + high % 95)
        high //= 95
    return bytes(out + [32 + low % 95, 32 + low // 95 % 95])


def records(form, n, skew):
    """gensort's records, written down a second time from its description; one number after another, without skipping ahead."""
    masks = [0, 0xF0E8E4E2E1D8D4D2D1CC, 0xCAC9C6C5C3B8B4B2B1AC, 0xAAA9A6A5A39C9A999695, 0x938E8D8B87787472716C]
    masks += [0x6A696665635C5A595655, 0x534E4D4B473C3A393635, 0x332E2D2B271E1D1B170F, 0xC8C4C2C1989492918CE0, 0x170F332E2D2B271E1D1B]
    numbers, x = [], 0
    for _ in range(max(n, 64) + 10):
        x = step(x)
        numbers.append(x)
    out = []
    for i in range(n):
        x = numbers[i]
        ten = [((y >> 48) ^ mask).to_bytes(10, "big") for y, mask in zip(numbers[i : i + 10], masks)]
        if form == "binary":
            record = b"".join(ten)
        elif form == "ascii":
            filler = "".join(4 * f"{x >> bit & 15:X}" for bit in range(48, -1, -4))
            record = printable(x) + f"  {i:032X}  {filler}\r\n".encode()
        else:
            filler = "".join(4 * f"{x >> bit & 15:X}" for bit in range(44, -1, -4))
            record = ten[0] + b"\0\x11" + f"{i:032X}".encode() + b"\x88\x99\xaa\xbb" + filler.encode() + b"\xcc\xdd\xee\xff"
        if skew:
            other, dice = numbers[i.bit_length()], x >> 32
            if form == "ascii":
                take = dice & 7 if dice & 7 <= 6 else 0
                record = printable(other)[:take] + record[take:]
            else:
                bits = dice & 63 if dice & 63 <= 48 else 0
                low = (1 << (80 - bits)) - 1
                key = (other >> 48) & ~low | int.from_bytes(record[:KEY], "big") & low
                record = key.to_bytes(KEY, "big") + record[KEY:]
        out.append(record)
    return b"".join(out)


def checksum(data):
    return f"{sum(zlib.crc32(data[i : i + SIZE]) for i in range(0, len(data), SIZE)):x}"


def in_order(data):
    """Sorted by key, stable."""
    all = np.frombuffer(data, dtype=np.dtype([("key", np.uint8, KEY), ("rest", np.uint8, SIZE - KEY)]))
    order = np.lexsort([all["key"][:, i] for i in range(KEY - 1, -1, -1)]) if len(all) else []
    return all[order].tobytes()


def numbered(keys):
    """Records with these keys, each with its number."""
    n = len(keys)
    out = np.zeros((n, SIZE), np.uint8)
    out[:, :KEY] = keys
    out[:, KEY : KEY + 8] = np.arange(n, dtype=">u8").view(np.uint8).reshape(n, 8)
    return out.tobytes()


def cases():
    """name, pieces of the input as files, words for terasort"""
    draw = np.random.default_rng(20261127)
    random = numbered(draw.integers(0, 256, (30000, KEY), np.uint8))
    little = ["--memory", "1MiB"]
    yield "random", [random], []
    yield "random, little memory", [random], little
    yield "least memory", [random[: 100 * 5000]], ["--memory", "64KiB"]
    yield "one key", [numbered(np.full((20000, KEY), 7, np.uint8))], little
    few = np.zeros((30000, KEY), np.uint8)
    few[:, 9] = np.minimum(draw.zipf(1.3, 30000), 200)
    yield "few keys that differ in their last byte", [numbered(few)], little
    yield "ascending", [in_order(random)], []
    down = np.frombuffer(in_order(random), np.uint8).reshape(-1, SIZE)[::-1].tobytes()
    yield "descending, several files", [down[i : i + 700000] for i in range(0, len(down), 700000)], little
    yield "ends of the range", [numbered(np.repeat(draw.choice([0, 255], (3000, 1)), KEY, axis=1))], []
    yield "nothing", [b""], []
    yield "one record", [random[:SIZE]], []
    yield "two records, empty files", [b"", random[:SIZE], b"", random[SIZE : 2 * SIZE], b""], []
    yield "skewed", [records("binary", 20000, True)], little


class Programs:
    def __init__(self, dir, launcher, valsort):
        self.dir, self.launcher, self.valsort = pathlib.Path(dir).resolve(), launcher, valsort
        self.runs = self.failed = 0

    def run(self, ranks, program, *words):
        """Exit code and JSON object."""
        words = [w.replace("{n}", str(ranks)) for w in self.launcher] + [self.dir / program, *words, "--json", "--quiet"]
        out = subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
        if out.returncode not in (0, 65):
            print(out.stderr.decode(errors="replace"))
        # MPICH's mpiexec may add words of its own after a rank has failed, and end with another code.
        objects = [line for line in out.stdout.splitlines() if line.startswith(b"{")]
        return out.returncode, json.loads(objects[0]) if objects else {}

    def judge(self, what, checks):
        self.runs += 1
        wrong = [text for text, good in checks.items() if not good]
        self.failed += bool(wrong)
        print(f"{'FAILED' if wrong else 'ok    '} {what}{': ' if wrong else ''}{'; '.join(wrong)}", flush=True)


def parts(dir):
    return b"".join(path.read_bytes() for path in sorted(dir.glob("part-*")))


def main():
    words, sample, valsort = sys.argv[1:], False, None
    while words[0].startswith("--"):
        option = words.pop(0)
        sample |= option == "--sample"
        valsort = words.pop(0) if option == "--valsort" else valsort
    it = Programs(words[0], words[1:], valsort)
    sizes = [1, 2, 3] if it.launcher else [1]
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        for form in ["binary"] if sample else ["binary", "ascii", "hadoop"]:
            for skew in [False, True]:
                want = records(form, 2003, skew)
                for ranks in sizes:
                    flags = ["--skew"] if skew else []
                    code, said = it.run(ranks, "teragen", "--records", 2003, "--format", form, "--output", tmp / "gen", "--overwrite", *flags)
                    got = parts(tmp / "gen")
                    it.judge(f"teragen {form}{' skewed' if skew else ''}, {ranks} ranks", {
                        f"exit code {code}": code == 0,
                        f"{len(got)} other bytes": got == want,
                        f"checksum {said.get('checksum')}, not {checksum(want)}": said.get("checksum") == checksum(want),
                        "part files": len(list((tmp / "gen").iterdir())) == ranks,
                    })
        for at, (name, pieces, flags) in enumerate(cases()):
            if sample and at % 3 != 1:
                continue
            files = []
            for i, piece in enumerate(pieces):
                files.append(tmp / f"in{i}")
                files[-1].write_bytes(piece)
            data = b"".join(pieces)
            want, sum, n = in_order(data), checksum(data), len(data) // SIZE
            keys = [want[i : i + KEY] for i in range(0, len(want), SIZE)]
            equal = sum_of(a == b for a, b in zip(keys, keys[1:]))
            for ranks in sizes:
                code, said = it.run(ranks, "terasort", "--input", *files, "--output", tmp / "out", "--overwrite", *flags)
                got = parts(tmp / "out")
                valid, told = it.run(ranks, "teravalidate", "--input", tmp / "out", "--records", n, "--checksum", sum)
                before, of_input = it.run(ranks, "teravalidate", "--input", *files)
                checks = {
                    f"exit code {code}": code == 0,
                    f"{len(got)} bytes, of {len(want)}, in another order": got == want,
                    f"records: {said.get('records')}": said.get("records") == n,
                    f"ranks: {said.get('ranks')}": said.get("ranks") == ranks,
                    "nothing spilled": not flags or len(data) < 2**20 or said.get("spilled", {}).get("bytes", 0) > 0,
                    f"teravalidate: {valid}, {told}": valid == 0 and told.get("sorted") and told.get("duplicate_keys") == equal,
                    f"teravalidate of the input: {before}, {of_input}": (before == 0) == is_sorted(data)
                    and (of_input.get("checksum"), of_input.get("records")) == (sum, n),
                    "other files": len(list((tmp / "out").iterdir())) == ranks,
                }
                if it.valsort and n:
                    (tmp / "whole").write_bytes(got)
                    done = subprocess.run([it.valsort, tmp / "whole"], stderr=subprocess.PIPE)
                    text = done.stderr.decode()
                    checks[f"valsort: {text}"] = done.returncode == 0 and f"Checksum: {sum}\n" in text
                it.judge(f"terasort {name}, {ranks} ranks", checks)
    print(f"{it.runs - it.failed} of {it.runs} runs agree with numpy and zlib")
    return it.failed > 0


def sum_of(truths):
    return len([truth for truth in truths if truth])


def is_sorted(data):
    keys = [data[i : i + KEY] for i in range(0, len(data), SIZE)]
    return all(a <= b for a, b in zip(keys, keys[1:]))


if __name__ == "__main__":
    sys.exit(main())
