from mrnet.library.answer import Hit, SearchAnswer
from mrnet.types import Moment


def test_the_document() -> None:
    seen = Hit("/v/a.mp4", 60.0, Moment(1.00049, 2.5, 0.812345))
    said = Hit("/v/b.mp4", 9.5, Moment(3.0, 4.0, 1.0, "said", "Look!"))
    answer = SearchAnswer(
        query="look",
        hits=(seen, said),
        best_guess=None,
        score_name="probability",
        library="lib",
        num_videos=7,
        num_searched=5,
        exact=False,
        answered_by="colours",
        note="a note",
        calibrated_on="paint",
    )
    assert answer.to_dict() == {
        "query": "look",
        "hits": [
            {
                "rank": 1,
                "video": "/v/a.mp4",
                "duration_s": 60.0,
                "start_s": 1.0,
                "end_s": 2.5,
                "probability": 0.8123,
                "source": "seen",
                "words": "",
            },
            {
                "rank": 2,
                "video": "/v/b.mp4",
                "duration_s": 9.5,
                "start_s": 3.0,
                "end_s": 4.0,
                "score": 1.0,
                "source": "said",
                "words": "Look!",
            },
        ],
        "best_guess": None,
        "library": {"uri": "lib", "num_videos": 7, "num_searched": 5, "exact": False},
        "note": "a note",
        "answered_by": "colours",
        "calibrated_on": "paint",
    }
    assert (len(answer), answer[1], answer[:1], list(answer)) == (2, said, (seen,), [seen, said])
