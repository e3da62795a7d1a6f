"""Tiny, randomly initialised models of each family, saved as their makers save theirs."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORDS = ["a", "red", "circle", "rises", "blue", "square", "falls", "left", "right"]
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
TEXT = {**TINY, "vocab_size": 4 + len(WORDS), "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
VISION = {**TINY, "image_size": 32, "patch_size": 8}
SOUND = {
    **TINY,
    "conv_dim": (8, 8),
    "conv_stride": (20, 16),
    "conv_kernel": (25, 16),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CROPPED = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}


@pytest.fixture(scope="session")
def hub_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``hub_model("clip")``: the folder of a model, made once a session."""
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            _save(family, made[family])
        return made[family]

    return get


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Any attempt to reach the network fails, and is listed."""
    tried: list[Any] = []

    def refuse(*where: Any, **_: Any) -> None:
        tried.append(where)
        raise OSError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A client of the hub that knows it is offline, and its cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def cached(offline: Path) -> Callable[[Path, str, str], None]:
    """``cached(folder, hub_id, commit)`` puts a model where the client of the hub keeps what it has downloaded."""

    def put(folder: Path, name: str, commit: str) -> None:
        place = offline / f"models--{name.replace('/', '--')}"
        shutil.copytree(folder, place / "snapshots" / commit)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(commit)

    return put


def _save(family: str, folder: Path) -> None:
    transformers: Any = pytest.importorskip("transformers")
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(len(family))
    t = transformers
    models: dict[str, Callable[[], Any]] = {
        "clip": lambda: t.CLIPModel(
            t.CLIPConfig(
                text_config={**TEXT, "max_position_embeddings": 10},
                vision_config=VISION,
                projection_dim=12,
            )
        ),
        "siglip": lambda: t.SiglipModel(
            t.SiglipConfig(
                text_config={**TEXT, "max_position_embeddings": 9, "projection_size": 16}, vision_config=VISION
            )
        ),
        "siglip2": lambda: t.Siglip2Model(
            t.Siglip2Config(
                text_config={**TEXT, "max_position_embeddings": 9, "projection_size": 16},
                vision_config={**TINY, "patch_size": 8, "num_patches": 16},
            )
        ),
        "dinov3": lambda: t.DINOv3ViTModel(t.DINOv3ViTConfig(**VISION)),
        "vit-classifier": lambda: t.ViTForImageClassification(t.ViTConfig(**VISION)),
        "videomae": lambda: t.VideoMAEModel(t.VideoMAEConfig(**VISION, num_frames=4, tubelet_size=2)),
        "xclip": lambda: t.XCLIPModel(
            t.XCLIPConfig(
                text_config={**TEXT, "max_position_embeddings": 10},
                vision_config={
                    **VISION,
                    "num_frames": 4,
                    "mit_hidden_size": 12,
                    "mit_intermediate_size": 20,
                    "mit_num_hidden_layers": 1,
                    "mit_num_attention_heads": 2,
                },
                projection_dim=12,
            )
        ),
        "distilbert": lambda: t.DistilBertModel(
            t.DistilBertConfig(
                vocab_size=TEXT["vocab_size"],
                max_position_embeddings=10,
                dim=16,
                n_layers=2,
                n_heads=2,
                hidden_dim=24,
            )
        ),
        "data2vec-text": lambda: t.Data2VecTextModel(t.Data2VecTextConfig(**TEXT, max_position_embeddings=12)),
        "wav2vec2": lambda: t.Wav2Vec2Model(
            t.Wav2Vec2Config(**SOUND, feat_extract_norm="group", num_feat_extract_layers=2)
        ),
        "data2vec-audio": lambda: t.Data2VecAudioModel(t.Data2VecAudioConfig(**SOUND, conv_pos_kernel_size=5)),
        "unispeech-sat": lambda: t.UniSpeechSatModel(t.UniSpeechSatConfig(**SOUND)),
        "ast": lambda: t.ASTModel(
            t.ASTConfig(**TINY, max_length=64, num_mel_bins=16, patch_size=8, frequency_stride=8, time_stride=8)
        ),
    }
    models["whisper"] = lambda: t.WhisperForConditionalGeneration(
        t.WhisperConfig(
            vocab_size=TEXT["vocab_size"], d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=24,
            encoder_attention_heads=2, decoder_attention_heads=2, decoder_ffn_dim=24, num_mel_bins=16,
            max_target_positions=160, decoder_start_token_id=2, bos_token_id=2, eos_token_id=3, pad_token_id=0,
            suppress_tokens=None, begin_suppress_tokens=None,
        )
    )  # fmt: skip
    models[family]().save_pretrained(folder)
    if family in ("clip", "siglip", "siglip2", "xclip", "distilbert", "data2vec-text", "whisper"):
        _save_tokenizer(folder)
    processors: dict[str, Callable[[], Any]] = {
        "clip": lambda: t.CLIPImageProcessorPil(**CROPPED),
        "siglip": lambda: t.SiglipImageProcessorPil(size={"height": 32, "width": 32}),
        "siglip2": lambda: t.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16),
        "videomae": lambda: t.VideoMAEImageProcessorPil(**CROPPED, **IMAGENET),
        "xclip": lambda: t.VideoMAEImageProcessorPil(**CROPPED, **IMAGENET),
        "wav2vec2": lambda: t.Wav2Vec2FeatureExtractor(),
        "data2vec-audio": lambda: t.Wav2Vec2FeatureExtractor(),
        "unispeech-sat": lambda: t.Wav2Vec2FeatureExtractor(),
        "whisper": lambda: t.WhisperFeatureExtractor(feature_size=16),
        "ast": lambda: t.ASTFeatureExtractor(num_mel_bins=16, max_length=64),
    }
    if family in processors:
        processors[family]().save_pretrained(folder)
    if family in ("dinov3", "vit-classifier"):  # whose classes need torchvision
        settings = {**IMAGENET, "size": {"height": 32, "width": 32}, "resample": 2, "do_center_crop": None}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def _save_tokenizer(folder: Path) -> None:
    """A word a token, between a first and a last special token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", bos_token="[CLS]", eos_token="[SEP]"
    ).save_pretrained(folder)
