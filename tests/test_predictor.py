"""Asking a video: files and features in, ranked moments out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mrnet.config import ModelSpec, RunConfig
from mrnet.data.sources import open_source
from mrnet.errors import CheckpointError, DataError, FeatureError, FeatureShapeError, VideoError
from mrnet.evaluation.run import predict
from mrnet.features.backbone import encode_sources
from mrnet.features.encoders.color_hog_motion import ColorHogMotion
from mrnet.features.encoders.hashed_words import HashedWords
from mrnet.features.store.pca import Pca, project_store
from mrnet.features.store.reader import open_store
from mrnet.features.store.writer import write_store
from mrnet.media.video import write_video
from mrnet.model.mrnet import MRNet
from mrnet.predictor import Predictor
from mrnet.provenance import Provenance
from mrnet.retrieval.trained import EncodedVideo
from mrnet.training.loop import train
from mrnet.weights.native import save_checkpoint
from tests.conftest import spec_of


@pytest.fixture
def config(tiny: Callable[..., RunConfig]) -> RunConfig:
    return tiny(
        model={"video_dim": ColorHogMotion.dim, "query_dim": HashedWords.dim},
    )


@pytest.fixture
def spec(config: RunConfig) -> ModelSpec:
    return spec_of(config, video=ColorHogMotion().provenance(), text=HashedWords().provenance())


@pytest.fixture
def checkpoint(config: RunConfig, spec: ModelSpec, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "checkpoint", spec, config, MRNet(config.model).state_dict())
    return tmp_path / "checkpoint"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    frames = (rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(48))
    write_video(tmp_path / "clip.mp4", frames, fps=8)
    return tmp_path / "clip.mp4"


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


def test_agrees_with_evaluation(
    config: RunConfig, spec: ModelSpec, checkpoint: Path, video: Path, tmp_path: Path
) -> None:
    """What users get is what the benchmark measures."""
    (tmp_path / "videos").mkdir()
    video.rename(tmp_path / "videos" / "clip.mp4")
    (tmp_path / "own.csv").write_text("video,start,end,query\nclip,1,2,a dog jumps\nclip,3,4,a cat sleeps\n")
    changes = {"video_features": str(tmp_path / "videos"), "test": [str(tmp_path / "own.csv")]}
    source = open_source(config.data.model_copy(update=changes))
    predictor = Predictor.load(checkpoint, device="cpu")
    dataset = source.dataset(source.split("test"), spec.model, spec.provenances)
    evaluated = predict(predictor.scorer, dataset, spec.decode.nms_threshold)
    encoded = predictor.encode_video(tmp_path / "videos" / "clip.mp4")
    for prediction in evaluated:
        found = predictor.find(encoded, prediction.query, k=10)
        np.testing.assert_allclose(found, prediction.windows, rtol=1e-5, atol=1e-5)


def test_features_in_place_of_a_file(checkpoint: Path, video: Path) -> None:
    predictor = Predictor.load(checkpoint, device="cpu")
    rows = encode_sources(ColorHogMotion(), [video])[0]
    by_file, by_rows = predictor.encode_video(video), predictor.encode_video(rows)
    assert by_rows.duration_s == len(rows) / 2
    torch.testing.assert_close(by_file.clips, by_rows.clips)


def test_bad_input_is_named(checkpoint: Path, video: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(checkpoint, device="cpu")
    encoded = predictor.encode_video(video)
    with pytest.raises(DataError, match="query is empty"):
        predictor.find(encoded, "   ")
    with pytest.raises(DataError, match="k is 0: ask for at least 1"):
        predictor.find(encoded, "a dog", k=0)
    with pytest.raises(
        FeatureShapeError, match="has features of width 3, the model was trained on width 492 of 'c"
    ):
        predictor.encode_video(np.ones((4, 3), dtype=np.float32))
    with pytest.raises(FeatureShapeError, match=r"has shape \[492\]: give \(n, c\)"):
        predictor.encode_video(np.ones(492, dtype=np.float32))
    with pytest.raises(FeatureError, match="holds NaN or infinity"):
        predictor.encode_video(np.full((4, ColorHogMotion.dim), np.nan, dtype=np.float32))
    with pytest.raises(DataError, match=r"duration_s is -1\.0"):
        predictor.encode_video(np.ones((4, ColorHogMotion.dim), dtype=np.float32), duration_s=-1.0)
    with pytest.raises(
        FeatureShapeError, match=r"come from 'c3d', .*mrnet features video VIDEOS --backbone color-hog"
    ):
        predictor.encode_video(
            np.ones((4, ColorHogMotion.dim), dtype=np.float32), provenance=Provenance(backbone="c3d", dim=492)
        )
    with pytest.raises(DataError, match="give either a sentence or a sound file, and not both"):
        predictor.find(encoded, "a dog", speech="dog.wav")
    with pytest.raises(
        FeatureError, match="the model was trained on text queries and cannot be asked speech ones"
    ):
        predictor.find(encoded, speech="dog.wav")
    with pytest.raises(VideoError, match=r"nothing\.mp4"):
        predictor.encode_video(tmp_path / "nothing.mp4")
    with pytest.raises(CheckpointError, match="does not exist"):
        Predictor.load(tmp_path / "nowhere")


def test_model_of_published_features_asks_for_features(
    config: RunConfig, spec: ModelSpec, tmp_path: Path, video: Path
) -> None:
    published = spec_of(
        config, **{**spec.provenances, "video": Provenance(backbone="c3d", dim=ColorHogMotion.dim)}
    )
    save_checkpoint(tmp_path / "published", published, config, MRNet(config.model).state_dict())
    predictor = Predictor.load(tmp_path / "published", device="cpu")
    with pytest.raises(
        FeatureError, match=r"trained on 'c3d' features, which cannot be made here .*: give features"
    ):
        predictor.encode_video(video)
    encoded = predictor.encode_video(np.ones((9, ColorHogMotion.dim), dtype=np.float32), duration_s=4.0)
    assert encoded.duration_s == 4.0
    assert predictor.find(encoded, "a dog")


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
        predictor.encode_video(video).clips,
        predictor.encode_video(small.read("clip"), provenance=small.provenance).clips,
    )
    with pytest.raises(
        FeatureShapeError, match=r"reduced to 6 by PCA .* then mrnet features pca FEATURES.h5 --apply"
    ):
        predictor.encode_video(rows, provenance=provenance)

    (tmp_path / "full.pca.safetensors").unlink()
    assert open_source(config.data).pca is None
    assert "is not beside it" in caplog.text
    without = Predictor(predictor.scorer.model, predictor.spec)
    with pytest.raises(FeatureError, match=r"reduced from 492 by a PCA that its checkpoint does not hold"):
        without.encode_video(video)


@pytest.mark.parametrize("attention", ["all", "video"])
def test_what_no_query_touches_is_computed_once(attention: str, tiny: Callable[..., RunConfig]) -> None:
    torch.manual_seed(0)
    config = tiny(model={"attention": attention})
    predictor = Predictor(MRNet(config.model), spec_of(config))
    calls: list[int] = []
    predictor.scorer.model.proposal_head.register_forward_hook(lambda *_: calls.append(1))
    video = predictor.encode_video(torch.randn(20, 6), duration_s=10.0)
    queries = torch.randn(3, 1, 5)
    found = [predictor.find_features(video, query) for query in queries]
    assert len(calls) == (1 if attention == "video" else 3)
    assert (video.proposals is None) == (attention == "all")
    for query, moments in zip(queries, found, strict=True):
        anew = predictor.find_features(EncodedVideo(video.clips, video.duration_s), query)
        assert np.allclose(anew, moments, atol=1e-6)
    assert found[0] != found[1]


def test_proposals_that_depend_on_a_query_have_none_of_their_own(tiny: Callable[..., RunConfig]) -> None:
    model = MRNet(tiny().model)
    with pytest.raises(ValueError, match="depend on the query"):
        model.embed_proposals(torch.zeros(1, 8, 8))


def test_memory_budget_reaches_the_model(checkpoint: Path) -> None:
    assert Predictor.load(checkpoint, device="cpu").scorer.model.proposal_head.stack.memory_budget is None
    predictor = Predictor.load(checkpoint, device="cpu", memory_budget=123)
    assert predictor.scorer.model.proposal_head.stack.memory_budget == 123
