"""Makes avst/word_vectors/wordnet.npz out of WordNet, and judges it. docs/word_vectors.md says how and how well.

    apt-get install wordnet-base
    python -m scripts.embedded_word_vectors                       # makes the file
    python -m scripts.embedded_word_vectors --judge ../shared/data/r_avst_train_object_vectors_googlenews300.bin

Two runs on one machine should write the same bytes: skip-gram runs in one thread (another numpy or gensim may round
otherwise). --held-out prints the held-out half too; look at it once, when nothing is to be chosen any more.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from avst.errors import AvstError
from avst.word_vectors import WordVectors
from avst.word_vectors.embedded import FILE, EmbeddedVectors, Mixture
from scripts.wordnet_vectors.judge import best_threshold, human_judgements, print_table, split_by_name, walk_only
from scripts.wordnet_vectors.relations import RelationOptions, Relations, reduce
from scripts.wordnet_vectors.sentences import Graph, gloss_sentences
from scripts.wordnet_vectors.shape import ShapeOptions, join, lengths
from scripts.wordnet_vectors.skipgram import STOP_WORDS, train
from scripts.wordnet_vectors.store import exceptions_of, write, young_of
from scripts.wordnet_vectors.vocabulary import choose_words, read_glosses, word_counts, word_senses
from scripts.wordnet_vectors.wordnet import read_wordnet

WORDS, DIMENSIONS, RELATIONS = 62_000, 80, 140
MIXTURE = Mixture(meaning=0.58, own=0.27, shared=0.15, lemma=0.4, number=0.2, tau=0.685)  # tau: of the choosing half


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--wordnet", type=Path, default=Path("/usr/share/wordnet"), metavar="DIR", help="WordNet's dictionary files")
    add("--out", type=Path, default=FILE, metavar="F.npz", help="the file to write, or to judge")
    add("--walks", type=int, default=250_000, metavar="N", help="random walks (default 250000)")
    add("--epochs", type=int, default=2, metavar="N", help="of skip-gram (default 2)")
    add("--seed", type=int, default=0, metavar="N")
    add("--skipgram", type=Path, metavar="F.npy", help="skip-gram's vectors: read if the file is there, else written")
    add("--judge", type=Path, metavar="F.bin", help="make nothing; compare with these vectors of names")
    add("--held-out", action="store_true", help="with --judge: the held-out half too")
    add(
        "--walk-only",
        type=int,
        metavar="N",
        help="with --judge: also vectors of N walks and nothing else (needs WordNet)",
    )
    args = parser.parse_args(argv)
    try:
        if args.judge is None:
            make(args)
        else:
            judge(args)
    except AvstError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def make(args: argparse.Namespace) -> None:
    say = _clock()
    wordnet = read_wordnet(args.wordnet)
    senses, glosses = word_senses(wordnet), read_glosses(wordnet)
    counts = word_counts(wordnet, glosses)
    words = choose_words(wordnet, senses, counts, WORDS)
    say(f"{len(wordnet.synsets):,} synsets, {len(words):,} words with a vector")
    if args.skipgram is not None and args.skipgram.exists():
        skipgram = np.load(args.skipgram, allow_pickle=False)
    else:
        sentences = list(Graph(wordnet, senses, words).walks(args.walks, args.seed))
        sentences += gloss_sentences(wordnet, glosses, STOP_WORDS)
        say(f"{len(sentences):,} sentences of {sum(map(len, sentences)):,} words")
        skipgram = train(sentences, words, args.epochs, args.seed)
        say("skip-gram")
        if args.skipgram is not None:
            np.save(args.skipgram, skipgram, allow_pickle=False)
    use = np.log1p([counts.get(word, 0.0) for word in words]) + 0.5
    rows = Relations(wordnet, senses).rows(words, RelationOptions())
    relations = reduce(rows, RELATIONS, use, args.seed)
    say(f"relations: {rows.shape[1]:,} synsets on {RELATIONS} directions")
    options = ShapeOptions()
    meaning = join(skipgram, relations, DIMENSIONS, use, options)
    kin, exceptions = young_of(wordnet, senses, words), exceptions_of(wordnet, words)
    write(args.out, words, meaning, lengths(words, counts, options), kin, exceptions, MIXTURE)
    say(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB")
    for name, (spearman, known) in human_judgements(EmbeddedVectors(args.out)).items():
        print(f"{name}: Spearman {spearman:.3f} over {known} pairs with both words")


def judge(args: argparse.Namespace) -> None:
    words = WordVectors(EmbeddedVectors(args.out))
    choosing, held_out = split_by_name(args.judge)
    others = {}
    if args.walk_only is not None:
        wordnet = read_wordnet(args.wordnet)
        others["random walks alone"] = walk_only(wordnet, args.walk_only, args.epochs, args.seed)
    best, scores = best_threshold(words.similarities(choosing.names, choosing.names)[0], choosing.google)
    print(f"tau {words.tau:g}; the best of the choosing half is {best:g} (F1 {scores.f1:.3f})")
    print_table("choosing half", choosing, choosing, words, others)
    if args.held_out:
        print_table("held-out half", held_out, choosing, words, others)
    for name, (spearman, known) in human_judgements(words.source).items():
        print(f"{name}: Spearman {spearman:.3f} over {known} pairs with both words")


def _clock() -> Callable[[str], None]:
    start = time.perf_counter()
    return lambda text: print(f"{time.perf_counter() - start:6.1f} s  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
