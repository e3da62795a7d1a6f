"""``mrnet config``"""

import pytest

from tests.cli.conftest import Command


def test_a_field(command: Command) -> None:
    assert command("config", "train.grad_clip") == (
        0, "train.grad_clip = 5.0\n    largest norm of the gradient\n", ""
    )  # fmt: skip


def test_a_field_without_a_default(command: Command) -> None:
    assert command("config", "train.lr") == (0, "train.lr\n    learning rate of AdamW\n", "")


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("data.train", "data.train = []"),
        ("data.video_features", "data.video_features = null"),
        ("model.softmax", "model.softmax = true"),
        ("train.betas", "train.betas = [0.9,0.99]"),
        ("data.query_kinds", "data.query_kinds = [text]"),
    ],
)
def test_defaults_as_set_takes_them(command: Command, key: str, line: str) -> None:
    assert command("config", key)[1].splitlines()[0] == line


def test_every_field_is_described(command: Command) -> None:
    status, out, _ = command("config")
    fields, descriptions = out.splitlines()[::2], out.splitlines()[1::2]
    assert status == 0
    assert len(fields) > 70
    assert {field.split(".")[0].split(" ")[0] for field in fields} == {
        "name", "model", "loss", "decode", "train", "data", "evaluation",
    }  # fmt: skip
    assert all(len(text.strip()) > 3 and text.strip() != "None" for text in descriptions)


def test_a_section(command: Command) -> None:
    fields = command("config", "decode")[1].splitlines()[::2]
    assert fields == [
        "decode.nms_threshold = 0.5",
        "decode.score_power = 0.5",
        "decode.rank_by = score",
        "decode.sharpness = 1.0",
    ]


def test_an_unknown_key(command: Command) -> None:
    assert command.refuses("config", "train.speed") == (
        "mrnet: error: no field or section 'train.speed'; the sections are name, model, loss, decode, train, data, "
        "evaluation"
    )
