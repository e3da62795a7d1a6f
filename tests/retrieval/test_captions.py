"""Questions as captions."""

import pytest

from mrnet.retrieval.captions import caption


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("when does the dog jump?", "the dog jumps"),
        ("When is the purple cross flickering?", "the purple cross flickering"),
        ("where does the man in the red shirt open the box?", "the man in the red shirt opens the box"),
        ("does the woman carry a bag into the house?", "the woman carries a bag into the house"),
        ("when does the man wash his hands?", "the man washes his hands"),
        ("Where does she play the piano?", "she plays the piano"),
        ("when does he have a cup?", "he has a cup"),
        ("when do people dance?", "people dance"),
        ("is there a cat?", "a cat"),
        ("Are there any birds?", "birds"),
        ("who opens the door?", "someone opens the door"),
        ("Who is playing guitar?", "someone is playing guitar"),
        ("show me the part where she cuts the bread", "she cuts the bread"),
        ("please show me the moment when the boy falls", "the boy falls"),
        ("what happens when the ball hits the wall?", "the ball hits the wall"),
        ("find a red car", "a red car"),
        ("when the rain starts", "the rain starts"),
    ],
)
def test_questions_and_requests(query: str, expected: str) -> None:
    assert caption(query) == expected


@pytest.mark.parametrize(
    "query",
    [
        "a dog jumps", "A man opens the door.", "find Nemo", "can opener", "Show jumping", "do it yourself shop",
        "the moment of truth", "parts of a car", "  two  blanks ", "", "?", "wann springt der Hund?",
    ],
)  # fmt: skip
def test_other_sentences_are_left_as_they_are(query: str) -> None:
    assert caption(query) == query
