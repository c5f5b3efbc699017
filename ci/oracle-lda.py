#!/usr/bin/env python3
"""LDA against a plain Gibbs sampler in numpy and against scikit-learn.

usage: oracle-lda.py [--keep FILE] LDA [LAUNCHER ...]

LDA is the program. LAUNCHER words are put before it, `{n}` in them being the number of ranks, which is then 1, 2 and 3:
`oracle-lda.py target/release/lda target/release/aeolian run -n {n}`. Needs numpy and scikit-learn.
What these say of the texts takes most of the time: with --keep it is kept in FILE for the next run on the same texts.

The texts are pieces of this project's book and of the licences on a Debian machine (or the project's own licences). For
each number of ranks:
- the vocabulary and its counts are those that this script counts;
- the files are consistent: every token has one topic, whichever file is added up, and probabilities follow from the counts;
- the log-likelihood that the program says is that of its own files, by the formula of Griffiths and Steyvers (2004) and math.lgamma;
- it rises, and its mean over the last iterations is within 1 % of that of a textbook sampler, one token after the other, after as many
  iterations (the mean of three seeds, which differ by nearly as much themselves);
- perplexity, by one formula from the topics and mixtures of both, is at most 5 % above scikit-learn's variational Bayes.
"""
import collections
import hashlib
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import sklearn
from sklearn.decomposition import LatentDirichletAllocation

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOPICS, ALPHA, BETA, ITERATIONS, LAST, MIN, SEEDS = 10, 0.1, 0.05, 60, 15, 3, (1, 2, 3)


def texts():
    """Name and text of documents: pieces of about 80 lines of what is on the machine."""
    files = sorted((ROOT / "docs/src").glob("*.md")) + [ROOT / "LICENSE-MIT", ROOT / "LICENSE-APACHE"]
    files += [f for f in sorted(pathlib.Path("/usr/share/common-licenses").glob("*")) if not f.is_symlink()]
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines()
        for at in range(0, len(lines), 80):
            yield f"{file.name}-{at:05}.txt", "\n".join(lines[at : at + 80]) + "\n"


def count(documents):
    """Words as the program's page defines them, written down a second time."""
    stop = (ROOT / "examples/lda/data/stop-words.txt").read_text().splitlines()
    stop = {word for line in stop if not line.startswith("#") for word in line.split()}
    split = ["".join(c if c.isalpha() else " " for c in text).lower().split() for text in documents]
    split = [[w for w in words if len(w) > 1 and w not in stop] for words in split]
    counts = collections.Counter(w for words in split for w in words)
    kept = {w: n for w, n in counts.items() if n >= MIN}
    numbers = {w: i for i, w in enumerate(sorted(kept))}
    return kept, numbers, [[numbers[w] for w in words if w in numbers] for words in split]


def likelihood(words, mixtures):
    """log p(w, z) from counts by (topic, word) and by (document, topic): matrices with a row a topic, a row a document."""
    rising = np.vectorize(lambda n, prior: math.lgamma(n + prior) - math.lgamma(prior))
    less = np.vectorize(lambda n, prior: math.lgamma(prior) - math.lgamma(n + prior))
    total = rising(words[words > 0], BETA).sum() + less(words.sum(1), BETA * words.shape[1]).sum()
    return total + rising(mixtures[mixtures > 0], ALPHA).sum() + less(mixtures.sum(1), ALPHA * TOPICS).sum()


def textbook(documents, size, seed):
    """Collapsed Gibbs sampling, one token after the other; the log-likelihood after each iteration."""
    draw = np.random.default_rng(seed)
    words, mixtures = np.zeros((size, TOPICS)), np.zeros((len(documents), TOPICS))
    topics = [draw.integers(TOPICS, size=len(d)) for d in documents]
    for d, document in enumerate(documents):
        np.add.at(words, (document, topics[d]), 1)
        np.add.at(mixtures[d], topics[d], 1)
    totals = words.sum(0)
    for _ in range(ITERATIONS):
        for d, document in enumerate(documents):
            mine, units = mixtures[d], draw.random(len(document))
            for i, w in enumerate(document):
                old = topics[d][i]
                mine[old] -= 1
                words[w, old] -= 1
                totals[old] -= 1
                sums = ((mine + ALPHA) * (words[w] + BETA) / (totals + BETA * size)).cumsum()
                new = topics[d][i] = min(int(sums.searchsorted(units[i] * sums[-1], "right")), TOPICS - 1)
                mine[new] += 1
                words[w, new] += 1
                totals[new] += 1
        yield likelihood(words.T, mixtures)


def perplexity(phi, theta, matrix):
    return math.exp(-(matrix * np.log(theta @ phi)).sum() / matrix.sum())


def opponents(documents, matrix):
    """Levels of the textbook sampler, and the perplexity of scikit-learn."""
    levels = [float(np.mean(list(textbook(documents, matrix.shape[1], seed))[-LAST:])) for seed in SEEDS]
    peer = LatentDirichletAllocation(TOPICS, doc_topic_prior=ALPHA, topic_word_prior=BETA, max_iter=ITERATIONS, random_state=1)
    theta = peer.fit_transform(matrix)
    return levels, perplexity(peer.components_ / peer.components_.sum(1, keepdims=True), theta / theta.sum(1, keepdims=True), matrix)


def kept_in(file, documents, matrix):
    """The same, out of `file` if it is there and of these texts."""
    versions = f"{np.__version__} {sklearn.__version__} "
    of = hashlib.sha256(pathlib.Path(__file__).read_bytes() + (versions + repr(documents)).encode()).hexdigest()
    if file and file.exists() and (known := json.loads(file.read_text()))["of"] == of:
        return known["levels"], known["perplexity"]
    levels, theirs = opponents(documents, matrix)
    if file:
        whole = file.with_name(file.name + ".new")
        whole.write_text(json.dumps({"of": of, "levels": levels, "perplexity": theirs}))
        whole.replace(file)
    return levels, theirs


def table(path, columns):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].split("\t") == columns, lines[0]
    return [line.split("\t") for line in lines[1:]]


def main():
    words = sys.argv[1:]
    keep = pathlib.Path(words[1]).resolve() if words[0] == "--keep" else None
    program, *launcher = words[2:] if keep else words
    program = pathlib.Path(program).resolve()
    failed = runs = 0
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        (tmp / "texts").mkdir()
        names, contents = zip(*sorted(texts()))
        for name, text in zip(names, contents):
            (tmp / "texts" / name).write_text(text, encoding="utf-8")
        kept, numbers, documents = count(contents)
        rows = {str(tmp / "texts" / name): i for i, name in enumerate(names)}
        matrix = np.zeros((len(documents), len(numbers)))
        for d, document in enumerate(documents):
            np.add.at(matrix[d], document, 1)
        tokens = int(matrix.sum())
        levels, theirs = kept_in(keep, documents, matrix)
        level = np.mean(levels)
        print(f"{len(documents)} documents, {tokens} tokens of {len(numbers)} words; textbook {level / tokens:.4f} a token ({', '.join(f'{x / tokens:.4f}' for x in levels)}); scikit-learn: perplexity {theirs:.1f}")
        for ranks in [1, 2, 3] if launcher else [1]:
            command = [w.replace("{n}", str(ranks)) for w in launcher]
            command += [program, "--input", tmp / "texts", "--output", tmp / "out", "--topics", TOPICS, "--alpha", ALPHA, "--beta", BETA]
            command += ["--iterations", ITERATIONS, "--min-count", MIN, "--json", "--quiet"]
            out = subprocess.run([str(w) for w in command], stdout=subprocess.PIPE, timeout=120)
            runs += 1
            if out.returncode != 0:
                print(f"FAILED {ranks} ranks: exit code {out.returncode}")
                failed += 1
                continue
            said = json.loads(out.stdout)
            words, mixtures = np.zeros((TOPICS, len(numbers))), np.zeros((len(documents), TOPICS))
            by_topic = table(tmp / "out/topics.tsv", ["topic", "word", "count", "probability"])
            by_document = table(tmp / "out/documents.tsv", ["document", "topic", "count", "probability"])
            listed = {w: int(n) for w, n in table(tmp / "out/vocabulary.tsv", ["word", "count"])}
            for topic, word, n, _ in by_topic:
                words[int(topic), numbers.get(word, -1)] += int(n)
            for document, topic, n, _ in by_document:
                mixtures[rows[document], int(topic)] += int(n)
            phi = (words + BETA) / (words.sum(1, keepdims=True) + BETA * len(numbers))
            theta = (mixtures + ALPHA) / (mixtures.sum(1, keepdims=True) + ALPHA * TOPICS)
            off = max(abs(float(p) / phi[int(t), numbers[w]] - 1) for t, w, _, p in by_topic)
            off = max(off, *(abs(float(p) / theta[rows[d], int(t)] - 1) for d, t, _, p in by_document))
            fit = [f["log_likelihood"] for f in said["fit"]]
            mine, ours = np.mean(fit[-LAST:]), perplexity(phi, theta, matrix)
            checks = {
                "the vocabulary is another one": listed == kept,
                f"{said['tokens']} tokens, not {tokens}": said["tokens"] == tokens == words.sum() == mixtures.sum(),
                "words have other counts": (words.sum(0) == matrix.sum(0)).all(),
                "documents have other lengths": (mixtures.sum(1) == matrix.sum(1)).all(),
                "topics.tsv and documents.tsv differ": (words.sum(1) == mixtures.sum(0)).all(),
                f"a probability is off by {off:.1e}": off < 1e-9,
                f"log-likelihood {fit[-1]}, not {likelihood(words, mixtures)}": math.isclose(fit[-1], likelihood(words, mixtures), rel_tol=1e-9),
                f"it does not rise: {fit}": len(fit) == ITERATIONS and fit[0] < fit[4] < fit[14] < mine,
                f"level {mine / tokens:.4f}, not {level / tokens:.4f}": abs(mine / level - 1) < 0.01,
                f"perplexity {ours:.1f}, not {theirs:.1f}": ours < 1.05 * theirs,
                f"ranks: {said['ranks']}": said["ranks"] == ranks,
            }
            wrong = [text for text, good in checks.items() if not good]
            failed += bool(wrong)
            print(f"{'FAILED' if wrong else 'ok    '} {ranks} ranks: {'; '.join(wrong) or f'{mine / tokens:.4f} a token ({100 * (mine / level - 1):+.2f} %), perplexity {ours:.1f}'}")
    print(f"{runs - failed} of {runs} runs agree with the textbook and scikit-learn")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
