"""The encoder of clips, by hand."""

import torch

from mrnet.model.clips import ClipEncoder


def make_encoder(**changes: object) -> ClipEncoder:
    settings: dict[str, object] = {
        "projection": "blocks",
        "video_dim": 2,
        "hidden": 2,
        "dim": 2,
        "pool_kernel": 4,
        "pool_stride": 2,
        "dropout": 0.0,
        "input_norm": False,
    }
    torch.manual_seed(0)
    return ClipEncoder(**(settings | changes))  # type: ignore[arg-type]


def test_by_hand() -> None:
    """Six rows; a ReLU before the pool of 4 at stride 2, a norm, a doubling, a ReLU, a norm, an exchange."""
    encoder = make_encoder()
    first, second = (layer for layer in encoder.project if isinstance(layer, torch.nn.Linear))
    with torch.no_grad():
        encoder.reduce.weight.copy_(torch.eye(2)[..., None])
        encoder.reduce.bias.zero_()
        first.weight.copy_(2 * torch.eye(2))
        second.weight.copy_(torch.eye(2).flip(0))
        second.bias.copy_(torch.tensor([10.0, 20.0]))
        first.bias.zero_()
        video = torch.tensor([[[9.0, 0], [-9, 1], [3, 2], [-3, 3], [0, 9], [0, 9]]])
        pooled = encoder.pool(encoder.reduce(video.transpose(1, 2)).relu())
        assert pooled.tolist() == [[[3.0, 0.75], [1.5, 5.75]]]
        clips = encoder(video)
    # The norm of two values is 1 for the larger and -1 for the other; doubled, without what is below 0, and again.
    torch.testing.assert_close(clips, torch.tensor([[[9.0, 21.0], [11.0, 19.0]]]), atol=1e-4, rtol=0)


def test_released_sizes_give_one_clip_a_stride() -> None:
    encoder = make_encoder(pool_kernel=4, pool_stride=4)
    assert encoder(torch.zeros(3, 256, 2)).shape == (3, 64, 2)


def test_dropout_is_before_each_linear_layer() -> None:
    kinds = [type(layer).__name__ for layer in make_encoder().project]
    assert kinds == ["LayerNorm", "Dropout", "Linear", "ReLU", "LayerNorm", "Dropout", "Linear"]
    encoder, video = make_encoder(hidden=64, dim=8, dropout=0.5).train(), torch.randn(1, 6, 2)
    assert not torch.equal(encoder(video), encoder(video))
    encoder.eval()
    assert torch.equal(encoder(video), encoder(video))
