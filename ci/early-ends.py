#!/usr/bin/env python3
"""Programs that write files, stopped and killed at any moment: the right exit code, and nothing left behind.

usage: early-ends.py DIR LAUNCHER

DIR has the programs, LAUNCHER is `aeolian`. What a program writes goes to a directory in /dev/shm, whose file system has files without names,
what it reads and spills to a temporary one.
"""
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

RANKS = 3
LONG = 120
STOPPED, LOST = 75, 80


def ranks_of(launcher):
    """Processes of the ranks, by rank."""
    found = {}
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                words = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            rank = [int(word[13:]) for word in words if word.startswith(b"AEOLIAN_RANK=")]
            if int(stat[1]) == launcher and rank:
                found[rank[0]] = int(pid)
    return found


def works(pid, source):
    """Whether a rank reads its input, or writes."""
    try:
        files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return False
    return any(name == str(source) or name.startswith("/dev/shm/early-") for name in files)


def end(command, source, out, after, act):
    """Runs a program, and `act`s on it (launcher, ranks) so many seconds after it began to work; its exit code, and what it said."""
    with tempfile.TemporaryFile() as said:
        job = subprocess.Popen(list(map(str, command)), cwd=out, stdout=said, stderr=said)
        try:
            begin = time.monotonic()
            while job.poll() is None and not any(works(pid, source) for pid in ranks_of(job.pid).values()):
                assert time.monotonic() - begin < LONG, f"it did not begin: {command}"
                time.sleep(0.01)
            time.sleep(after)
            act(job, ranks_of(job.pid))
            code = job.wait(LONG)
        finally:
            job.kill()
        said.seek(0)
        return code, said.read().decode(errors="replace")


def main():
    programs, launcher = (pathlib.Path(word).resolve() for word in sys.argv[1:])
    failed = runs = 0
    with tempfile.TemporaryDirectory() as tmp, tempfile.TemporaryDirectory(prefix="early-", dir="/dev/shm") as shm:
        tmp, shm = pathlib.Path(tmp), pathlib.Path(shm)
        rng = random.Random(1)
        source = tmp / "source.csv"
        with open(source, "w") as file:
            file.write("k,v,t\n")
            for i in range(800_000):
                file.write(f"k{rng.randrange(10**6)},{i},w{rng.randrange(10**9)}\n")
        small = ["--memory", "48MiB", "--scratch", tmp]
        jobs = {
            "teragen": ["--records", 10**7, "--output", "o"],
            "terasort": ["--generate", 2 * 10**6, "--output", "o", *small],
            "wordcount": ["--input", source, "--output", "o", *small],
            "groupby": ["--input", source, "--key", "k", "--agg", "count,max:v,min:t", "--output", "o", *small],
            "join": ["--left", source, "--right", source, "--on", "k", "--sorted", "--output", "o", *small],
        }
        how = {
            "SIGTERM": (lambda job, ranks: job.terminate(), STOPPED),
            "kill -9 of rank 0": (lambda job, ranks: 0 in ranks and os.kill(ranks[0], signal.SIGKILL), LOST),
            "kill -9 of rank 1": (lambda job, ranks: 1 in ranks and os.kill(ranks[1], signal.SIGKILL), LOST),
        }
        for name, options in jobs.items():
            command = [launcher, "run", "-n", RANKS, "--", programs / name, *options]
            for what, (act, want) in how.items():
                ended = 0
                # Later and later, until it is done before.
                for after in (0, 0.4, 1, 2.5, 7):
                    code, said = end(command, source, shm, after, act)
                    runs += 1
                    left = sorted(os.listdir(shm))
                    if code == 0 and left == ["o"]:
                        subprocess.run(["rm", "-r", shm / "o"], check=True)
                        break
                    ended += 1
                    if code != want or left or sorted(os.listdir(tmp)) != ["source.csv"]:
                        failed += 1
                        print(f"FAILED {name}, {what} after {after} s: exit code {code}, not {want}; left: {left}\n{said}")
                        subprocess.run(["sh", "-c", 'rm -rf "$1"/* "$1"/.[!.]*', "sh", shm], check=True)
                if not ended:
                    failed += 1
                    print(f"FAILED {name}, {what}: it was done at once")
                print(f"{name}, {what}: {ended} ends", flush=True)
    print(f"{runs - failed} of {runs} runs ended as they should")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
