"""Asking a video: files and features in, ranked moments out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnet.answer import Answer
from mrnet.config.run import RunConfig
from mrnet.config.spec import Calibration, ModelSpec, VideoLengths
from mrnet.data.sources import open_source
from mrnet.engines import TrainedEngine
from mrnet.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    FeatureError,
    FeatureShapeError,
    MRNetError,
    VideoError,
)
from mrnet.evaluation.run import predict
from mrnet.features.backbone import encode_sources
from mrnet.features.encoders.color_hog_motion import ColorHogMotion
from mrnet.features.encoders.hashed_words import HashedWords
from mrnet.features.store.pca import Pca, project_store
from mrnet.features.store.reader import open_store
from mrnet.features.store.writer import write_store
from mrnet.media.video import write_video
from mrnet.model.mrnet import MRNet
from mrnet.predictor import Predictor, ReadyVideo
from mrnet.provenance import Provenance
from mrnet.retrieval.trained import EncodedVideo
from mrnet.training.loop import train
from mrnet.types import Moment
from mrnet.weights.native import load_checkpoint
from mrnet.weights.onnx import export_checkpoint
from tests.conftest import save_untrained, spec_of


@pytest.fixture
def config(tiny: Callable[..., RunConfig]) -> RunConfig:
    return tiny(model={"video_dim": ColorHogMotion.dim, "query_dim": HashedWords.dim})


@pytest.fixture
def spec(config: RunConfig) -> ModelSpec:
    return spec_of(config, video=ColorHogMotion().provenance(), text=HashedWords().provenance())


@pytest.fixture
def checkpoint(config: RunConfig, spec: ModelSpec, tmp_path: Path) -> Path:
    return save_untrained(tmp_path / "checkpoint", config, spec)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    frames = (rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(48))
    write_video(tmp_path / "clip.mp4", frames, fps=8)
    return tmp_path / "clip.mp4"


def clips(video: ReadyVideo) -> torch.Tensor:
    [window] = video.encoded
    return window.encoded.clips


def test_answers_are_ranked_moments_of_the_video(checkpoint: Path, video: Path) -> None:
    predictor = Predictor.load(checkpoint, device="cpu")
    encoded = predictor.encode_video(video)
    assert encoded.duration_s == pytest.approx(6.0, abs=0.2)
    moments = predictor.find(encoded, "a dog jumps", k=3)
    assert 1 <= len(moments) <= 3
    for moment in moments:
        assert 0 <= moment.start_s < moment.end_s <= encoded.duration_s + 1e-4
        assert 0 < moment.score <= 1
    assert [m.score for m in moments] == sorted((m.score for m in moments), reverse=True)
    assert predictor.find(video, "a dog jumps", k=3) == moments  # encoded on the way, same answer


def test_scores_of_a_calibrated_model_are_probabilities(
    config: RunConfig, spec: ModelSpec, checkpoint: Path, video: Path, tmp_path: Path
) -> None:
    plain = Predictor.load(checkpoint, device="cpu")
    scored = plain.find(video, "a dog jumps", k=3)
    assert (scored.score_name, scored.best_guess, scored.calibrated_on) == ("score", None, "")
    assert refusal(DataError, lambda: plain.find(video, "a dog jumps", k=None)) == (
        f"which moments are likely enough is not known of {plain.engine.name}, whose scores are no probabilities: ask "
        "for a number of moments"
    )

    def ask(threshold: float, k: int | None) -> Answer:
        made_up = Calibration(bias=2, weights=(0, 0, -4, 0, 0), threshold=threshold, footage="the made up")
        calibrated = spec.model_copy(update={"calibration": made_up})
        path = save_untrained(tmp_path / f"calibrated-{threshold}-{k}", config, calibrated)
        answer = Predictor.load(path, device="cpu").find(video, "a dog jumps", k=k)
        assert (answer.score_name, answer.calibrated_on) == ("probability", "the made up")
        return answer

    found = ask(0.5, 3)  # the best one is likely enough, and it comes with those after it
    assert [moment[:2] for moment in found] == [moment[:2] for moment in scored]
    assert [moment.score for moment in found] == pytest.approx([0.8808, 0.1192, 0.1192], abs=1e-4)
    assert found.best_guess is None
    assert list(ask(0.5, None)) == [found[0]]
    assert len(ask(0.1, None)) > 3
    for k in (3, None):
        absent = ask(0.9, k)
        assert tuple(absent) == ()
        assert absent.best_guess == found[0]


def test_agrees_with_evaluation(config: RunConfig, checkpoint: Path, video: Path, tmp_path: Path) -> None:
    """What users get is what the benchmark measures."""
    (tmp_path / "videos").mkdir()
    video.rename(tmp_path / "videos" / "clip.mp4")
    (tmp_path / "own.csv").write_text("video,start,end,query\nclip,1,2,a dog jumps\nclip,3,4,a cat sleeps\n")
    files = {"video_features": str(tmp_path / "videos"), "test": [str(tmp_path / "own.csv")]}
    source = open_source(config.data.model_copy(update=files))
    predictor = Predictor.load(checkpoint, device="cpu")
    dataset = source.dataset(source.split("test"), config.model, predictor.engine.spec.provenances)
    evaluated = predict(predictor.engine.scorer, dataset, predictor.engine.spec.decode.nms_threshold)
    assert [prediction.query for prediction in evaluated] == ["a dog jumps", "a cat sleeps"]
    encoded = predictor.encode_video(tmp_path / "videos" / "clip.mp4")
    for prediction in evaluated:
        found = predictor.find(encoded, prediction.query, k=10)
        np.testing.assert_allclose(
            [moment[:3] for moment in found], [window[:3] for window in prediction.windows], rtol=1e-5, atol=1e-5
        )


def test_who_watches_an_encoding_is_told_its_seconds_and_may_end_it(checkpoint: Path, video: Path) -> None:
    told: list[tuple[float, float]] = []
    predictor = Predictor.load(checkpoint, "cpu")
    predictor.find(video, "a red square", watch=lambda *so_far: told.append(so_far))
    assert told == sorted(told)
    assert len(set(told)) > 1
    assert {total for _, total in told} == {predictor.encode_video(video).duration_s}
    assert told[-1][0] == told[-1][1]

    def end(*_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predictor.encode_video(video, watch=end)
    assert predictor.find(video, "a red square").moments  # nothing is held up


def test_features_in_place_of_a_file(checkpoint: Path, video: Path) -> None:
    predictor = Predictor.load(checkpoint, device="cpu")
    rows = encode_sources(ColorHogMotion(), [video])[0]
    by_file, by_rows = predictor.encode_video(video), predictor.encode_video(rows)
    assert by_rows.duration_s == len(rows) / 2
    torch.testing.assert_close(clips(by_file), clips(by_rows))


def test_onnx_in_place_of_pytorch(checkpoint: Path, video: Path, tmp_path: Path) -> None:
    export_checkpoint(checkpoint, tmp_path / "onnx")
    by_torch = Predictor.load(checkpoint, device="cpu").find(video, "a dog jumps")
    by_onnx = Predictor.load(tmp_path / "onnx", runtime="onnx").find(video, "a dog jumps")
    assert [moment[:2] for moment in by_onnx] == [moment[:2] for moment in by_torch]
    assert [moment.score for moment in by_onnx] == pytest.approx([m.score for m in by_torch], abs=1e-4)
    assert refusal(CheckpointError, lambda: Predictor.load(tmp_path / "onnx")) == (
        f"{tmp_path}/onnx was made by `mrnet export` for another runtime: ask it with --runtime onnx, or give the "
        "checkpoint that it was made from"
    )
    assert refusal(CheckpointError, lambda: Predictor.load(checkpoint, runtime="onnx")) == (
        f"{checkpoint}/video.onnx is not there: make it with `mrnet export CHECKPOINT --out NEW`"
    )
    assert refusal(ConfigError, lambda: Predictor.load(tmp_path / "onnx", "cuda", runtime="onnx")) == (
        "runtime onnx answers on the processor: leave 'cuda' out, or use runtime torch"
    )


def refusal(kind: type[MRNetError], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def test_bad_query_is_named(checkpoint: Path) -> None:
    predictor = Predictor.load(checkpoint, device="cpu")
    encoded = predictor.encode_video(np.ones((9, ColorHogMotion.dim), dtype=np.float32))
    assert refusal(DataError, lambda: predictor.find(encoded, "   ")) == (
        "the query is empty or holds no words (got '   '); describe the moment to find"
    )
    assert refusal(DataError, lambda: predictor.find(encoded, "a dog", k=0)) == "k is 0: ask for at least 1 moment"
    for query, speech in (("a dog", "dog.wav"), (None, None)):
        assert refusal(DataError, lambda q=query, s=speech: predictor.find(encoded, q, speech=s)) == (  # type: ignore[misc]
            "give either a sentence or a sound file, and not both"
        )
    assert refusal(FeatureError, lambda: predictor.find(encoded, speech="dog.wav")) == (
        "the model was trained on text queries and cannot be asked speech ones: use another checkpoint, or train one "
        "for both with --set data.query_kinds=[text,speech]; or give a recogniser of speech, hf:MODEL"
    )
    assert refusal(FeatureShapeError, lambda: predictor.find_features(encoded, torch.ones(1, 3))) == (
        "the query has features of width 3, but model.query_dim is 512: use the features the model was made for, or "
        "train with --set model.query_dim=3"
    )


def test_bad_video_is_named(checkpoint: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(checkpoint, device="cpu")
    rows = np.ones((4, ColorHogMotion.dim), dtype=np.float32)
    command = "mrnet features video VIDEOS --backbone color-hog-motion --rate 2 --out FEATURES.h5"
    assert refusal(FeatureShapeError, lambda: predictor.encode_video(rows[:, :3])) == (
        "the given array has features of width 3, the model was trained on width 492 of 'color-hog-motion' revision "
        f"1: {command}"
    )
    for bad, shape in ((rows[0], [492]), (rows[:0], [0, 492])):
        assert refusal(FeatureShapeError, lambda b=bad: predictor.encode_video(b)) == (  # type: ignore[misc]
            f"the given array has shape {shape}: give (r, c), r at least 1"
        )
    assert refusal(FeatureError, lambda: predictor.encode_video(rows * np.nan)) == (
        "the given array holds NaN or infinity: extract them again"
    )
    for duration_s in (-1.0, 0.0, float("inf")):
        assert refusal(DataError, lambda d=duration_s: predictor.encode_video(rows, duration_s=d)) == (  # type: ignore[misc]
            f"duration_s is {duration_s}: give the video's length in seconds"
        )
    c3d = Provenance(backbone="c3d", dim=492)
    assert refusal(FeatureShapeError, lambda: predictor.encode_video(rows, provenance=c3d)) == (
        "the video features come from 'c3d', the model was trained on 'color-hog-motion' revision 1: point "
        f"data.video_features at features of that backbone: {command}"
    )
    assert refusal(VideoError, lambda: predictor.encode_video(tmp_path / "nothing.mp4")) == (
        f"{tmp_path / 'nothing.mp4'}: no such file; check the path of the video"
    )
    assert refusal(CheckpointError, lambda: Predictor.load(tmp_path / "nowhere")) == (
        f"{tmp_path / 'nowhere'} does not exist: expected a folder with mrnet.json and model.safetensors, or a "
        "training run; `mrnet train`, `mrnet demo` and `mrnet convert` make one"
    )


def test_model_of_published_features_asks_for_features(
    config: RunConfig, spec: ModelSpec, tmp_path: Path, video: Path
) -> None:
    c3d = spec.provenances["video"].model_copy(update={"backbone": "c3d", "rows_per_s": None})
    published = spec.model_copy(update={"provenances": spec.provenances | {"video": c3d}})
    predictor = Predictor.load(save_untrained(tmp_path / "published", config, published), device="cpu")
    said = refusal(FeatureError, lambda: predictor.encode_video(video))
    assert said.startswith(
        "the model was trained on 'c3d' features, which cannot be made here (no video backbone is named "
    )
    assert said.endswith("): give features, not raw input")
    rows = np.ones((9, ColorHogMotion.dim), dtype=np.float32)
    assert refusal(DataError, lambda: predictor.encode_video(rows)) == (
        "features do not say how long the video is: give duration_s"
    )
    encoded = predictor.encode_video(rows, duration_s=4.0)
    assert encoded.duration_s == 4.0
    assert predictor.find(encoded, "a dog")


def test_model_that_does_not_say_how_its_features_were_made(
    config: RunConfig, tmp_path: Path, video: Path
) -> None:
    predictor = Predictor.load(save_untrained(tmp_path / "unknown", config, spec_of(config)), device="cpu")
    assert refusal(FeatureError, lambda: predictor.encode_video(video)) == (
        "the checkpoint does not say which backbone made its video features: give features, not raw input"
    )
    encoded = predictor.encode_video(torch.ones(9, ColorHogMotion.dim), duration_s=4.0)
    assert refusal(FeatureError, lambda: predictor.find(encoded, "a dog")) == (
        "the checkpoint does not say which backbone made its text features: give features, not raw input"
    )
    assert predictor.find_features(encoded, torch.ones(1, HashedWords.dim), k=1)


def test_features_of_another_revision_are_not_made(config: RunConfig, spec: ModelSpec, tmp_path: Path) -> None:
    old = spec.provenances["text"].model_copy(update={"revision": "0"})
    changed = spec.model_copy(update={"provenances": spec.provenances | {"text": old}})
    predictor = Predictor.load(save_untrained(tmp_path / "old", config, changed), device="cpu")
    encoded = predictor.encode_video(np.ones((9, ColorHogMotion.dim), dtype=np.float32))
    assert refusal(FeatureError, lambda: predictor.find(encoded, "a dog")) == (
        "the model was trained on 'hashed-words' revision 0 features, this version makes 'hashed-words' revision 1: "
        "train again, or give features of that revision"
    )


def test_a_model_of_both_kinds_takes_a_sentence_in_its_first_columns(
    tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = tiny(model={"query_dim": HashedWords.dim + 3})
    widths = {"text": HashedWords.dim, "speech": 3}
    spec = spec_of(config, text=HashedWords().provenance()).model_copy(update={"query_widths": widths})
    predictor = Predictor.load(save_untrained(tmp_path / "both", config, spec), device="cpu")
    encoded = predictor.encode_video(torch.randn(9, 6, generator=torch.Generator().manual_seed(0)), duration_s=9.0)
    row = torch.from_numpy(encode_sources(HashedWords(), ["a dog"])[0])
    widened = torch.cat([row, torch.zeros(1, 3)], dim=1)
    assert predictor.find(encoded, "a dog").moments == predictor.find_features(encoded, widened).moments
    assert refusal(FeatureError, lambda: predictor.find(encoded, speech="dog.wav")) == (
        "the checkpoint does not say which backbone made its speech features: give features, not raw input"
    )


def test_a_model_that_hears_alone_takes_no_sentence(tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = tiny()
    spec = spec_of(config).model_copy(update={"query_widths": {"speech": 5}})
    predictor = Predictor.load(save_untrained(tmp_path / "ear", config, spec), device="cpu")
    assert refusal(FeatureError, lambda: predictor.find("a.mp4", "a dog")) == (
        "the model was trained on speech queries and cannot be asked text ones: use another checkpoint, or train one "
        "for both with --set data.query_kinds=[text,speech]"
    )


def test_a_pca_travels_from_the_features_into_the_checkpoint(
    tiny: Callable[..., RunConfig], video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Features reduced before training: a raw video goes through the same backbone and the same PCA."""
    rows = encode_sources(ColorHogMotion(), [video])[0]
    noise = np.random.default_rng(0).standard_normal((40, rows.shape[1])).astype(np.float32)
    provenance = ColorHogMotion().provenance()
    write_store(tmp_path / "full.h5", [("clip", rows), ("a", noise[:20]), ("b", noise[20:])], provenance)
    pca = Pca.fit([("a", noise[:20]), ("b", noise[20:])], 6, provenance, "two videos of noise")
    pca.save(tmp_path / "full.pca.safetensors")
    project_store(open_store(tmp_path / "full.h5"), tmp_path / "full.pca.safetensors", tmp_path / "small.h5")
    (tmp_path / "own.csv").write_text(
        "video,start,end,query,duration\nclip,1,2,a dog jumps,6\na,1,2,it is loud,10\nb,1,2,it is quiet,10\n"
    )
    data = {split: str(tmp_path / "own.csv") for split in ("train", "val")}
    data["video_features"] = str(tmp_path / "small.h5")
    config = tiny(model={"query_dim": HashedWords.dim}, data=data, train={"epochs": 1, "milestones": []})
    train(config, tmp_path / "run", cpu=True)

    predictor = Predictor.load(tmp_path / "run", device="cpu")
    small = open_store(tmp_path / "small.h5")
    torch.testing.assert_close(
        clips(predictor.encode_video(video)),
        clips(predictor.encode_video(small.read("clip"), provenance=small.provenance)),
    )
    with pytest.raises(
        FeatureShapeError, match=r"reduced to 6 by PCA .* then mrnet features pca FEATURES.h5 --apply"
    ):
        predictor.encode_video(rows, provenance=provenance)

    kept = load_checkpoint(tmp_path / "run").pca
    assert kept is not None
    Pca.fit([("a", noise)], 6, provenance, "other noise").save(kept)
    assert refusal(CheckpointError, lambda: Predictor.load(tmp_path / "run", device="cpu")) == (
        f"{kept} is not the PCA that the model's video features went through: restore or remake the checkpoint"
    )

    (tmp_path / "full.pca.safetensors").unlink()
    assert open_source(config.data).pca is None
    assert "is not beside it" in caplog.text
    without = Predictor(TrainedEngine(predictor.engine.scorer.scorer.model, predictor.engine.spec))
    assert refusal(FeatureError, lambda: without.encode_video(video)) == (
        "the model was trained on features reduced from 492 by a PCA that its checkpoint does not hold "
        "(video.pca.safetensors): give features, not a video file"
    )


@pytest.mark.parametrize("attention", ["all", "video"])
def test_what_no_query_touches_is_computed_once(attention: str, tiny: Callable[..., RunConfig]) -> None:
    torch.manual_seed(0)
    config = tiny(model={"attention": attention})
    model = MRNet(config.model)
    predictor = Predictor(TrainedEngine(model, spec_of(config)))
    calls: list[int] = []
    model.proposal_head.register_forward_hook(lambda *_: calls.append(1))
    video = predictor.encode_video(torch.randn(20, 6), duration_s=10.0)
    queries = torch.randn(3, 1, 5)
    found = [predictor.find_features(video, query) for query in queries]
    assert len(calls) == (1 if attention == "video" else 3)
    [window] = video.encoded
    assert (window.encoded.proposals is None) == (attention == "all")
    bare = replace(window, encoded=EncodedVideo(window.encoded.clips, video.duration_s))
    for query, moments in zip(queries, found, strict=True):
        anew = predictor.find_features(ReadyVideo((bare,), video.duration_s), query)
        assert np.allclose([m[:3] for m in anew], [m[:3] for m in moments], atol=1e-6)
    assert found[0] != found[1]


def test_a_video_longer_than_those_of_the_training_is_asked_in_windows(tiny: Callable[..., RunConfig]) -> None:
    torch.manual_seed(0)
    config = tiny()
    spec = spec_of(config).model_copy(update={"trained_lengths": VideoLengths(usual_s=10, longest_s=20)})
    model = MRNet(config.model).eval()
    predictor, whole = Predictor(TrainedEngine(model, spec)), Predictor(TrainedEngine(model, spec_of(config)))
    rows, query = torch.randn(40, 6), torch.randn(1, 5)
    video = predictor.encode_video(rows, duration_s=40.0)
    assert [(window.start_s, window.end_s) for window in video.encoded] == [
        (start, start + 10) for start in (0, 5, 10, 15, 20, 25, 30)
    ]
    found = predictor.find_features(video, query, k=200)
    assert {moment.end_s - moment.start_s for moment in found} <= {1.25 * count for count in range(1, 9)}
    assert max(moment.end_s for moment in found) == 40.0
    short = [one.find_features(one.encode_video(rows[:20], 20.0), query) for one in (predictor, whole)]
    assert list(short[0]) == list(short[1])


def test_memory_budget_reaches_the_model(checkpoint: Path) -> None:
    predictor = Predictor.load(checkpoint, device="cpu")
    assert predictor.engine.scorer.scorer.model.proposal_head.stack.memory_budget is None
    predictor = Predictor.load(checkpoint, device="cpu", memory_budget=123)
    assert predictor.engine.scorer.scorer.model.proposal_head.stack.memory_budget == 123


SRT = """\
1
00:00:00,500 --> 00:00:01,500
The battery's dead.

2
00:00:02,000 --> 00:00:03,000
To be, or not

3
00:00:03,100 --> 00:00:04,000
to be.

4
00:00:09,000 --> 00:00:10,000
The battery's dead.
"""


def test_what_is_said_is_found_beside_what_is_seen(checkpoint: Path, video: Path) -> None:
    predictor = Predictor.load(checkpoint, device="cpu")
    seen = predictor.find(video, "he says that the battery is dead", k=3)
    video.with_suffix(".srt").write_text(SRT)
    answer = predictor.find(video, "he says that the battery is dead", k=4)
    assert [moment.source for moment in answer] == ["seen", "said", "seen", "seen"]
    assert [answer[0], *answer[2:]] == list(seen)
    assert answer[1][:2] == (0.5, 1.5)  # and not what is said after the end of the video
    assert answer[1].words == "The battery's dead."
    assert answer.answered_by == "MRNet trained on tiny, and what is said by clip.srt"
    first = answer.to_dict()["moments"][1]
    assert first == {
        "rank": 2, "start_s": 0.5, "end_s": 1.5, "score": round(answer[1].score, 4), "source": "said",
        "words": "The battery's dead.",
    }  # fmt: skip
    silent = Predictor.load(checkpoint, device="cpu", subtitles=False)
    assert silent.find(video, "he says that the battery is dead", k=3) == seen


def test_words_in_quotes_are_looked_for_in_what_is_said_alone(
    checkpoint: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor.load(checkpoint, device="cpu")
    asked = '"or not to be"'
    unheard = predictor.find(video, asked, k=1)
    assert (
        unheard.note
        == "no subtitles say what is said in this video, so the words in quotes were looked for by sight"
    )
    assert [moment.source for moment in unheard] == ["seen"]
    video.with_suffix(".srt").write_text(SRT)
    ready = predictor.encode_video(video)
    with monkeypatch.context() as patch:
        patch.setattr("mrnet.ready.encode_all", lambda *_, **__: pytest.fail("no frame need be looked at"))
        answer = predictor.find(video, asked, k=None)
    assert list(answer) == [Moment(2.0, 4.0, 1.0, "said", "To be, or not to be.")]
    assert (answer.best_guess, answer.answered_by, answer.video) == (None, "the words of clip.srt", video)
    assert predictor.find(ready, asked) == answer
    both = predictor.find(ready, [asked, "a dog", '"a dog"'], k=2)
    assert both[0] == answer
    assert [moment.source for moment in both[1]] == ["seen", "seen"]
    assert both[2].moments == ()
    assert refusal(DataError, lambda: predictor.find(ready, asked, k=0)) == "k is 0: ask for at least 1 moment"
    features = torch.from_numpy(encode_sources(HashedWords(), [asked])[0])
    assert [moment.source for moment in predictor.find_features(ready, features, k=1)] == ["seen"]


def test_subtitles_in_another_language(checkpoint: Path, video: Path) -> None:
    video.with_suffix(".de.srt").write_text(SRT)
    answer = Predictor.load(checkpoint, device="cpu").find(video, "he says that the battery is dead", k=3)
    assert answer.note == "clip.de.srt is not in English: only the very words of a query are looked for in it"
    assert [moment.source for moment in answer] == ["seen"] * 3


def test_probabilities_beside_what_is_said(
    config: RunConfig, spec: ModelSpec, video: Path, tmp_path: Path
) -> None:
    """What was said has none; and where it is found, the query is in the video."""
    video.with_suffix(".srt").write_text(SRT)
    made_up = Calibration(bias=2, weights=(0, 0, -4, 0, 0), threshold=0.9, footage="the made up")
    path = save_untrained(tmp_path / "sure", config, spec.model_copy(update={"calibration": made_up}))
    predictor = Predictor.load(path, device="cpu")
    answer = predictor.find(video, "he says that the battery is dead", k=None)
    assert (answer.score_name, len(answer), answer.best_guess) == ("probability", 1, None)
    assert set(answer.to_dict()["moments"][0]) == {"rank", "start_s", "end_s", "score", "source", "words"}
    rows = answer.to_pandas()
    assert list(rows.columns) == [
        "rank", "start_s", "end_s", "probability", "score", "source", "words", "query", "video",
    ]  # fmt: skip
    assert rows["probability"].isna().tolist() == [True]
    absent = predictor.find(video, "a purple tractor")
    assert (len(absent), absent.best_guess and absent.best_guess.source) == (0, "seen")
