"""The job on a local Ray cluster gives what the engine of one machine gives."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrnet.errors import ConfigError
from mrnet.features.backbone import Backbone
from mrnet.features.encoders.color_hog_motion import ColorHogMotion
from mrnet.features.extraction.extract import extract, video_files
from mrnet.features.extraction.ray import BackboneSpec, extract_with_ray
from mrnet.features.registry import make_backbone
from mrnet.features.store.reader import open_store
from mrnet.features.store.writer import open_writer
from mrnet.media.video import write_video

ray = pytest.importorskip("ray")


class Fragile(ColorHogMotion):
    """Takes its process down with it at some files, and says which files it begins."""

    def prepare(self, source: str | Path) -> Iterator[Any]:
        with (Path(source).parent / "log").open("a") as log:
            log.write(f"{Path(source).stem}\n")
        if Path(source).stem == "deadly":
            os._exit(1)
        return super().prepare(source)


@dataclass(frozen=True)
class FragileSpec(BackboneSpec):
    def make(self) -> Backbone:
        return Fragile()


def make_videos(folder: Path) -> dict[str, Path]:
    folder.mkdir()
    for shift, name in enumerate(["a", "b", "c"]):
        frames = (np.full((32, 32, 3), 20 * shift + 5 * index, np.uint8) for index in range(10 + 5 * shift))
        write_video(folder / f"{name}.mp4", frames, fps=5)
    (folder / "broken.mp4").write_text("not a film")
    (folder / "deadly.mp4").write_text("opened by nobody")
    return video_files(folder)


def test_same_as_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
    videos = make_videos(Path("in"))
    spec = FragileSpec("video", "color-hog-motion")
    local = extract(
        {name: path for name, path in videos.items() if name != "deadly"},
        spec.make(),
        open_writer(Path("local.h5"), spec.make().provenance()),
    )
    extract({"a": videos["a"]}, spec.make(), open_writer(Path("ray.h5"), spec.make().provenance()))
    Path("in/log").unlink()

    report = extract_with_ray(videos, spec, open_writer(Path("ray.h5"), spec.make().provenance()), workers=1)

    assert not ray.is_initialized()
    assert report.skipped == ["a"]
    assert sorted(report.done) == ["b", "c"]
    assert report.failed == {
        "broken": local.failed["broken"].replace("in/", f"{tmp_path}/in/"),
        "deadly": "the process that encoded it died 2 times; it may need more memory than there is",
    }
    assert report.media_s == 3 + 4
    assert sorted(Path("in/log").read_text().split()) == ["b", "broken", "c", "deadly", "deadly"]
    ours, theirs = open_store(Path("ray.h5")), open_store(Path("local.h5"))
    assert ours.ids() == theirs.ids() == ["a", "b", "c"]
    assert ours.provenance == theirs.provenance
    for name in ours.ids():
        np.testing.assert_array_equal(ours.read(name), theirs.read(name))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "local.h5", "ray.h5"]


def test_a_cluster_of_this_machine_is_for_this_machine() -> None:
    """Ray listens where its node's address is: on a loopback address nobody else can give it work."""
    code = (
        "from mrnet.features.extraction.ray import _cluster\n"
        "with _cluster() as ray:\n"
        "    print(ray.util.get_node_ip_address())"
    )
    settings = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True)
    assert done.stdout == "127.0.0.1\n"


def test_nobody_at_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    backbone = make_backbone("text", "hashed-words")
    writer = open_writer(tmp_path / "f.h5", backbone.provenance())
    with pytest.raises(ConfigError) as caught:
        extract_with_ray({"a": "a cat"}, BackboneSpec("text", "hashed-words"), writer)
    assert str(caught.value) == (
        "no Ray cluster at 127.0.0.1:1 ([Errno 111] Connection refused): correct RAY_ADDRESS, or unset it"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "name", "device", "uses"),
    [
        ("video", "color-hog-motion", None, False),
        ("video", "hf:openai/clip-vit-base-patch32", None, True),
        ("video", "hf:openai/clip-vit-base-patch32", "cuda:1", True),
        ("video", "hf:openai/clip-vit-base-patch32", "cpu", False),
    ],
)
def test_gpu_only_for_networks(kind: Any, name: str, device: str | None, uses: bool) -> None:
    assert BackboneSpec(kind, name, device=device).uses_gpu == uses
