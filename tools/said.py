"""How near sentences come to what they have nothing to do with, and to what says the same: for the least cosine of
`mrnet.retrieval.said`.

Usage:

    python tools/said.py --speech TEXT [TEXT ...] --annotations FILE [FILE ...]

The texts stand for what is said in a film, 2,000 sentences of them drawn at random; the annotations give queries, at
most 500 a file, and pairs of sentences that describe one moment (of one video, at IoU 0.9).
"""

import argparse
import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np

from mrnet.data.annotations import read_annotations
from mrnet.evaluation.metrics import tiou
from mrnet.features.backbone import encode_sources
from mrnet.features.registry import make_backbone
from mrnet.retrieval.aligned import PACKAGED_TEXT
from mrnet.retrieval.captions import caption
from mrnet.retrieval.said import LEAST_COSINE

_FILM, _QUERIES, _PAIRS = 2000, 500, 2000
_THRESHOLDS = (0.5, 0.55, LEAST_COSINE, 0.65, 0.7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, nargs="+", required=True)
    parser.add_argument("--annotations", type=Path, nargs="+", required=True)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    encoder = make_backbone("text", PACKAGED_TEXT)

    def encode(texts: list[str]) -> np.ndarray:
        return np.concatenate(encode_sources(encoder, texts))

    said = sorted({sentence for path in arguments.speech for sentence in _sentences(path)})
    film = encode(_some(said, _FILM, rng))
    document: dict[str, object] = {"sentences": len(film)}
    for path in arguments.annotations:
        records = read_annotations(path)
        texts = sorted({caption(query.text.strip()) for record in records for query in record.queries})
        queries = _some(texts, _QUERIES, rng)
        pairs = [
            (one.text.strip(), other.text.strip())
            for record in records
            for one, other in combinations(record.queries, 2)
            if one.text.strip() != other.text.strip()
            and tiou(np.array(one.moments[0]), np.array(other.moments[0])) >= 0.9
        ]
        pairs = [pairs[index] for index in sorted(rng.permutation(len(pairs))[:_PAIRS])]
        figures: dict[str, object] = {
            "queries": len(queries),
            "nearest unrelated": _reach((encode(queries) @ film.T).max(axis=1)),
        }
        if pairs:
            ones, others = (encode(list(side)) for side in zip(*pairs, strict=True))
            figures |= {"pairs of one moment": len(pairs), "their cosine": _reach((ones * others).sum(axis=1))}
        document[path.parent.name + "/" + path.name] = figures
    print(json.dumps(document, indent=2))


def _sentences(path: Path) -> list[str]:
    """Of 2 to 30 words; the lines that say who is cited are left out."""
    text = re.sub(r"\n\s*--.*|\n%\n", "\n", path.read_text(encoding="utf-8", errors="replace"))
    return [part for part in re.split(r"(?<=[.!?])\s+", " ".join(text.split())) if 2 <= len(part.split()) <= 30]


def _some(texts: list[str], most: int, rng: np.random.Generator) -> list[str]:
    return [texts[index] for index in sorted(rng.permutation(len(texts))[:most])]


def _reach(cosines: np.ndarray) -> dict[str, float]:
    """Percent from each threshold on."""
    return {f"{least:g}": round(100 * float((cosines >= least).mean()), 1) for least in _THRESHOLDS}


if __name__ == "__main__":
    main()
