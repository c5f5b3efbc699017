#!/usr/bin/env python3
"""Word count against Python: the same lines in the same order, byte for byte.

usage: oracle-wordcount.py [--sample] WORDCOUNT [LAUNCHER ...]

WORDCOUNT is the program. LAUNCHER words are put before it, `{n}` in them being the number of ranks, which is then 1, 2 and 3:
`oracle-wordcount.py target/release/wordcount target/release/aeolian run -n {n}`. Words come from collections.Counter and unicodedata;
of ASCII text also from tr, sort and uniq, and of plain words from DuckDB where it is installed. --sample: fewer runs.
"""
import collections
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import unicodedata

try:
    import duckdb
except ImportError:
    duckdb = None

# Letters by Unicode's property Alphabetic that are symbols by their category: circled and squared Latin letters.
CIRCLED = [(0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189)]


def is_word(c):
    """Letters, digits and marks."""
    return unicodedata.category(c)[0] in "LNM" or any(a <= ord(c) <= b for a, b in CIRCLED)


def words_of(content, words, ignore_case):
    """The words of a file, written down a second time from the description."""
    if words == "space":
        found = re.findall(rb"[^\t\n\v\f\r ]+", content)
        if ignore_case:
            found = [w.decode("utf-8", "surrogateescape").lower().encode("utf-8", "surrogateescape") for w in found]
        return found
    # What is not UTF-8 becomes surrogates, which are neither letters nor digits nor marks.
    text = content.decode("utf-8", "surrogateescape")
    text = "".join(c if is_word(c) else " " for c in text)
    return [(w.lower() if ignore_case else w).encode() for w in text.split(" ") if w]


def lines_of(counts):
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return b"".join(b"%s\t%d\n" % (word, count) for word, count in order)


def by_coreutils(files, ignore_case):
    """Of ASCII files: with their ends as separators, since `cat` would join words."""
    fold = "| tr A-Z a-z" if ignore_case else ""
    script = f"for f; do cat -- \"$f\"; echo; done | tr -cs A-Za-z0-9 '\\n' {fold} | grep . | sort | uniq -c | sort -k1,1nr -k2,2"
    out = subprocess.run(["sh", "-c", script, "sh", *files], stdout=subprocess.PIPE, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"}).stdout
    rows = [line.split() for line in out.splitlines()]
    return b"".join(b"%s\t%s\n" % (word, count) for count, word in rows)


def by_duckdb(files):
    """Of ASCII files, words between white space."""
    text = [path.read_bytes().decode("ascii") for path in files]
    query = "select w, count(*) from (select unnest(regexp_split_to_array(t, '[\\t\\n\\v\\f\\r ]+')) w from (select unnest(?) t)) where w <> '' group by w"
    return lines_of({w.encode(): n for w, n in duckdb.execute(query, [text]).fetchall()})


def contents(sample):
    """name, files, words for the program beside the input"""
    draw = random.Random(20261127)
    word = lambda letters: "".join(draw.choice(letters) for _ in range(1 + int(draw.paretovariate(0.8)) % 40))
    zipf = [word("abcdefghijklmnopqrstuvwxyzABCDEFXYZ0123456789") for _ in range(3000)]
    ascii_text = lambda n: "".join(zipf[int(draw.paretovariate(0.7)) % 3000] + draw.choice([" ", "\n", ", ", "_", "\t", ". "]) for _ in range(n)).encode()
    yield "ASCII", [ascii_text(20_000)], []
    yield "ASCII, three files, one of them empty", [ascii_text(500), b"", ascii_text(900).rstrip()], []
    yield "CRLF", [ascii_text(3000).replace(b"\n", b"\r\n")], []
    # Every code point that Python knows; none alone, so that each is seen beside a letter and beside a blank.
    known = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    # Two that are letters in one version of Unicode and not in another would be no error of ours: the categories of what is assigned are stable.
    yield "every character", [" ".join(f"a{c}b" for c in known if ord(c) > 0x7F).encode()], []
    letters = "äöüßÉÈσςΣΑαİıſKÅßẞДдЁёאבג語字漢क्षिதமிழ்０９²½Ⅳé́"
    separators = [" ", "\n", "。", "、", "–", "’", "\u00a0", "\u2003", "🙂"]
    unicode_text = lambda n: "".join(word(letters) + draw.choice(separators) for _ in range(n)).encode()
    yield "Unicode", [unicode_text(5000), unicode_text(10)], []
    damaged = bytearray(unicode_text(4000))
    for _ in range(2000):
        damaged[draw.randrange(len(damaged))] = draw.randrange(256)
    yield "damaged UTF-8", [bytes(damaged)], []
    yield "random bytes", [draw.randbytes(100_000)], []
    yield "very long words", [b"a" * 300_000 + b" " + b"b" * 100_000 + " é".encode() + "語".encode() * 120_000 + b" a"], []
    yield "one word, longer than a rank's part", [b"x" * 1_000_001], []
    yield "tiny files", [draw.choice(zipf).encode() for _ in range(300)], []
    spills = [b" ".join(b"%x%s" % (draw.getrandbits(64), b"tail" * draw.randrange(6)) for _ in range(60_000)) for _ in range(2)]
    yield "distinct words that do not fit", spills + [spills[0][:500_000]], ["--memory", "2MiB"]


def main():
    args = sys.argv[1:]
    sample = "--sample" in args
    args = [a for a in args if a != "--sample"]
    program, launcher = pathlib.Path(args[0]).resolve(), args[1:]
    failed = runs = 0
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        for number, (name, files, more) in enumerate(contents(sample)):
            place = tmp / f"in{number}"
            place.mkdir()
            paths = [place / f"{i:04}.txt" for i in range(len(files))]
            for path, content in zip(paths, files):
                path.write_bytes(content)
            for words, ignore_case in [("alnum", False), ("alnum", True), ("space", False), ("space", True)]:
                if sample and (words, ignore_case) not in [("alnum", True), ("space", False)]:
                    continue
                counts = collections.Counter(w for content in files for w in words_of(content, words, ignore_case))
                want = lines_of(counts)
                others = []
                if words == "alnum" and all(content.isascii() for content in files) and max(map(len, counts)) < 100_000:
                    others.append("tr, sort and uniq")
                    if by_coreutils(paths, ignore_case) != want:
                        print(f"FAILED {name}: Python and coreutils do not agree")
                        failed += 1
                if duckdb and words == "space" and not ignore_case and all(content.isascii() for content in files):
                    others.append("DuckDB")
                    if by_duckdb(paths) != want:
                        print(f"FAILED {name}: Python and DuckDB do not agree")
                        failed += 1
                for ranks in [1, 2, 3] if launcher and not sample else [3] if launcher else [1]:
                    command = [w.replace("{n}", str(ranks)) for w in launcher] + [program, "--input", *(paths if len(paths) < 9 else [place])]
                    command += ["--words", words, "--output", tmp / "words.tsv", "--json", "--quiet", "--top", 7, *more]
                    command += ["--ignore-case"] if ignore_case else []
                    out = subprocess.run([str(w) for w in command], stdout=subprocess.PIPE, timeout=120)
                    runs += 1
                    what = f"{name}, {words}{', ignoring case' if ignore_case else ''}, {ranks} ranks"
                    if out.returncode != 0:
                        print(f"FAILED {what}: exit code {out.returncode}")
                        failed += 1
                        continue
                    said, got = json.loads(out.stdout), (tmp / "words.tsv").read_bytes()
                    (tmp / "words.tsv").unlink()
                    first = [[line.split(b"\t")[0].decode(errors="replace"), int(line.split(b"\t")[1])] for line in want.splitlines()[:7]]
                    checks = {
                        "the lines differ": got == want,
                        f"{said['words']} words, not {sum(counts.values())}": said["words"] == sum(counts.values()),
                        f"{said['distinct']} distinct words, not {len(counts)}": said["distinct"] == len(counts),
                        f"{said['bytes']} bytes": said["bytes"] == sum(map(len, files)),
                        "the first words differ": [[t["word"], t["count"]] for t in said["top"]] == first or not all(c.isascii() for c in files),
                        "nothing was spilled": bool(said["spilled_bytes"]) == bool(more),
                        f"ranks: {said['ranks']}": said["ranks"] == ranks,
                    }
                    wrong = [text for text, good in checks.items() if not good]
                    if wrong and got != want:
                        a, b = collections.Counter(got.splitlines()), collections.Counter(want.splitlines())
                        wrong += [f"too many: {list((a - b))[:5]}", f"missing: {list((b - a))[:5]}"]
                    failed += bool(wrong)
                    print(f"{'FAILED' if wrong else 'ok    '} {what}: {'; '.join(wrong) or f'{len(counts)} distinct'} ({', '.join(['Python', *others])})")
    print(f"{runs - failed} of {runs} runs agree with Python")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
