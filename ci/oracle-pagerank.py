#!/usr/bin/env python3
"""PageRank against networkx: the same vertices, each rank equal to 1e-10, the same number of iterations.

usage: oracle-pagerank.py PAGERANK [LAUNCHER ...]

PAGERANK is the program. LAUNCHER words are put before it, `{n}` in them being the number of ranks, which is then 1, 2, 3, 4
and 7: `oracle-pagerank.py target/release/pagerank target/release/aeolian run -n {n}`. Needs networkx.
"""
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

import networkx as nx

DEBIAN = pathlib.Path(__file__).parent.parent / "examples/pagerank/data/debian-libs.tsv"
M64 = (1 << 64) - 1


def mix(x):
    """SplitMix64's finaliser, as examples/common/random.rs."""
    x = (x + 0x9E3779B97F4A7C15) & M64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & M64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & M64
    return x ^ (x >> 31)


def at(seed, stream, index):
    return mix(mix(mix(seed) ^ stream) ^ index)


def rmat(scale, edges, seed):
    """Written down a second time from the description of the generator."""
    borders = [int(share * 2**32) for share in (0.57, 0.76, 0.95)]
    mask = (1 << scale) - 1

    def renumber(v):
        for k in (1, 2, 3):
            odd = (at(seed, 1, k) & 0xFFFFFFFF) | 1
            v = (v * odd + (odd >> 7)) & mask
            v ^= v >> max(scale // 2, 1)
        return v

    for i in range(edges):
        word, source, target = at(seed, 0, i), 0, 0
        for level in range(scale):
            draw = (word >> 32 * (level % 2)) & 0xFFFFFFFF
            quarter = sum(draw >= border for border in borders)
            source, target = 2 * source + quarter // 2, 2 * target + quarter % 2
            if level % 2:
                word = mix(word)
        yield str(renumber(source)), str(renumber(target))


def cases():
    """name, edges, file name and content (or None: words for the program), damping, tolerance, vertices beside those of the edges"""
    debian = [tuple(line.split("\t")) for line in DEBIAN.read_text().splitlines()]
    yield "Debian's libraries", debian, ("debian.tsv", DEBIAN.read_bytes()), 0.85, 1e-12, []
    draw = random.Random(20261126)
    names = ["vertex " + str(i) if i % 3 else "Ünïcode, " + chr(0x4E00 + i) for i in range(400)]
    edges = [(draw.choice(names), names[int(draw.paretovariate(0.5)) % 400]) for _ in range(3000)]
    text = "# a comment\n\n" + "".join(f"{a}\t{b}\r\n" for a, b in edges)
    yield "names, duplicates, self loops", edges, ("names.tsv", text.encode()), 0.85, 1e-10, []
    quoted = "".join(f'"{a}","{b}"\n' for a, b in edges[:500])
    yield "quoted", edges[:500], ("names.csv", quoted.encode()), 0.5, 1e-10, []
    pairs = [(draw.randrange(3000), draw.randrange(2**32)) if i % 5 == 0 else (draw.randrange(3000), draw.randrange(3000)) for i in range(9000)]
    packed = b"".join(struct.pack("<II", a, b) for a, b in pairs)
    yield "numbers", [(str(a), str(b)) for a, b in pairs], ("pairs.bin", packed), 0.99, 1e-9, []
    ring = [(str(i), str((i + 1) % 1000)) for i in range(1000)] + [("0", "500")]
    yield "a ring, which converges slowly", ring, ("ring.tsv", "".join(f"{a} {b}\n" for a, b in ring).encode()), 0.85, 1e-11, []
    words = ["--generate", "rmat", "--scale", "11", "--edges", "20000", "--seed", "5"]
    yield "R-MAT", list(rmat(11, 20000, 5)), words, 0.85, 1e-12, [str(v) for v in range(2**11)]


def main():
    program, launcher = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:]
    failed = runs = 0
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        for name, edges, source, damping, tolerance, more in cases():
            graph = nx.DiGraph()
            graph.add_nodes_from(more)
            graph.add_edges_from(edges)
            # networkx multiplies its tolerance by the number of vertices; ours is for all of them together.
            want = nx.pagerank(graph, alpha=damping, tol=tolerance / len(graph), max_iter=10_000)
            if isinstance(source, tuple):
                (tmp / source[0]).write_bytes(source[1])
                source = ["--input", tmp / source[0]]
            for ranks in [1, 2, 3, 4, 7] if launcher else [1]:
                for exchange in ["auto"] if ranks == 1 else ["needed", "whole"]:
                    words = [w.replace("{n}", str(ranks)) for w in launcher]
                    words += [program, *source, "--damping", damping, "--tolerance", tolerance, "--iterations", 10_000]
                    words += ["--exchange", exchange, "--output", tmp / "ranks.tsv", "--json", "--quiet"]
                    out = subprocess.run([str(w) for w in words], stdout=subprocess.PIPE, timeout=120)
                    runs += 1
                    what = f"{name}, {ranks} ranks, {exchange}"
                    if out.returncode != 0:
                        print(f"FAILED {what}: exit code {out.returncode}")
                        failed += 1
                        continue
                    said = json.loads(out.stdout)
                    lines = (tmp / "ranks.tsv").read_text().splitlines()
                    got = {vertex: float(rank) for vertex, rank in (line.rsplit("\t", 1) for line in lines)}
                    off = max(abs(got.get(v, 9) - rank) for v, rank in want.items())
                    best = said["top"][0]
                    dangling = sum(degree == 0 for _, degree in graph.out_degree())
                    checks = {
                        f"{len(got)} vertices, not {len(want)}": got.keys() == want.keys() and len(lines) == len(want),
                        f"a rank is off by {off:.1e}": off <= 1e-10,
                        f"{said['edges']} edges, not {graph.number_of_edges()}": said["edges"] == graph.number_of_edges(),
                        f"{said['dangling']} dangling, not {dangling}": said["dangling"] == dangling,
                        f"first {best['name']}": abs(best["rank"] - max(want.values())) <= 1e-10,
                        f"degrees of {best['name']}": (best["edges_in"], best["edges_out"]) == (graph.in_degree(best["name"]), graph.out_degree(best["name"])),
                        "not converged": said["converged"],
                        f"sum {said['sum']}": abs(said["sum"] - 1) <= 1e-9,
                        f"ranks: {said['ranks']}": said["ranks"] == ranks,
                    }
                    wrong = [text for text, good in checks.items() if not good]
                    failed += bool(wrong)
                    print(f"{'FAILED' if wrong else 'ok    '} {what}: {'; '.join(wrong) or f'off by {off:.0e}'}, {said['iterations']} iterations")
    print(f"{runs - failed} of {runs} runs agree with networkx")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
