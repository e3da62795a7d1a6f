"""The registry of backbones."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mrnet.errors import ConfigError
from mrnet.features import registry
from mrnet.features.backbone import encode_sources
from mrnet.features.registry import make_backbone


def test_video_backbone() -> None:
    backbone = make_backbone("video", "color-hog-motion")
    assert (backbone.name, backbone.dim, backbone.rate) == ("color-hog-motion", 492, 2.0)
    provenance = backbone.provenance()
    assert (provenance.backbone, provenance.dim, provenance.rows_per_s, provenance.revision) == (
        "color-hog-motion",
        492,
        2.0,
        backbone.revision,
    )
    assert provenance.details["frame_size"] == "128x96"


def test_text_backbone() -> None:
    backbone = make_backbone("text", "hashed-words")
    assert (backbone.name, backbone.dim) == ("hashed-words", 512)
    one, two = encode_sources(backbone, ["a red circle", "a"])
    assert one.shape == two.shape == (1, 512)


def test_unknown_names() -> None:
    with pytest.raises(ConfigError) as video:
        make_backbone("video", "hashed-words")
    assert str(video.value).startswith(
        'no video backbone is named "hashed-words"; use one of: color-hog-motion, hf:MODEL'
    )
    with pytest.raises(ConfigError) as text:
        make_backbone("text", "bert")
    assert str(text.value) == (
        'no text backbone is named "bert"; use one of: hashed-words, hf:MODEL, st:MODEL, minilm-l6-v2, glove:MODEL'
    )


def test_modules_are_imported_on_first_use() -> None:
    program = "import sys, mrnet.features.registry; print([m for m in ('av', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "[]\n"


def test_the_rate_of_a_fixed_backbone_cannot_be_chosen() -> None:
    assert make_backbone("video", "color-hog-motion", rate=2.0).rate == 2.0
    with pytest.raises(
        ConfigError, match=r"^the rate of color-hog-motion cannot be chosen: it gives 2 rows a second$"
    ):
        make_backbone("video", "color-hog-motion", rate=1.0)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_impossible_rates(rate: float) -> None:
    with pytest.raises(ConfigError) as caught:
        make_backbone("video", "hf:any", rate=rate)
    assert (
        str(caught.value) == f"a rate of {rate:g} rows a second is impossible; give one above 0, and 1000 at most"
    )


class TestNamedByAFile:
    """What a checkpoint may have loaded without the user's word, and with it."""

    @pytest.fixture
    def made(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The models that were asked for, by any family; none is loaded."""
        asked: list[str] = []

        class Encoder:
            rate = None

            def __init__(self, model: str = "", **_: object) -> None:
                asked.append(model)

        monkeypatch.setattr(registry.importlib, "import_module", lambda _: SimpleNamespace(Encoder=Encoder))
        entries = [replace(entry, target="any:Encoder") for entry in registry.REGISTRY]
        monkeypatch.setattr(registry, "REGISTRY", tuple(entries))
        return asked

    @pytest.mark.parametrize(
        "name",
        [
            "hashed-words",
            "minilm-l6-v2",
            "hf:openai/clip-vit-base-patch32",
            "hf:facebook/data2vec-text-base@0123abc",
            "st:sentence-transformers/average_word_embeddings_glove.6B.300d",
        ],
    )
    def test_registered_and_well_known_ones_are_made(self, made: list[str], name: str) -> None:
        make_backbone("text", name, trusted=())
        assert made == [name.partition(":")[2]]

    @pytest.mark.parametrize(
        ("name", "ours"),
        [
            ("hf:clip", "hf:FOLDER/clip"),
            ("st:table", "st:FOLDER/table"),
            ("glove:glove.6B.300d.txt", "glove:FOLDER/glove.6B.300d.txt"),
            ("hf:/home/x/clip", "hf:/home/x/clip"),
            ("hf:nobody/clip", "hf:nobody/clip"),
            ("hf:openai/../../home/x", "hf:openai/../../home/x"),
            ("hf:/openai/clip", "hf:/openai/clip"),
            ("hf:openai/a/b", "hf:openai/a/b"),
            ("glove:openai/clip", "glove:openai/clip"),
        ],
    )
    def test_others_are_not(self, made: list[str], name: str, ours: str) -> None:
        with pytest.raises(ConfigError) as caught:
            make_backbone("text", name, trusted=["hf:other", "st:clip", "glove:clip.txt"])
        assert str(caught.value) == (
            f"the text encoder {name} is named by the checkpoint alone, and is of no well-known publisher: if you "
            f"trust it, add --encoder {ours}"
        )
        assert made == []
        make_backbone("text", name)  # the user has named it
        make_backbone("text", name, trusted=[name])
        assert made == [name.partition(":")[2]] * 2

    def test_a_folder_in_the_name_of_a_publisher_is_not_his(
        self, made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "openai" / "clip").mkdir(parents=True)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigError, match="is named by the checkpoint alone"):
            make_backbone("text", "hf:openai/clip", trusted=())
        assert made == []

    @pytest.mark.parametrize("wanted", ["hf:clip", "hf:openai/clip", "hf:/home/x/clip"])
    def test_the_users_own_is_made_in_its_stead(self, made: list[str], wanted: str) -> None:
        make_backbone("text", wanted, trusted=["hf:/models/other", "st:/models/clip", "hf:/models/clip/"])
        assert made == ["/models/clip/"]

    def test_a_file_of_word_vectors(self, tmp_path: Path) -> None:
        (tmp_path / "words.txt").write_text("red 1 2\nblue 3 4\n")
        name = make_backbone("text", f"glove:{tmp_path / 'words.txt'}").name
        assert name == "glove:words.txt"
        with pytest.raises(ConfigError, match=r"add --encoder glove:FOLDER/words\.txt$"):
            make_backbone("text", name, trusted=())
        backbone = make_backbone("text", name, trusted=[f"glove:{tmp_path / 'words.txt'}"])
        assert backbone.dim == 2
