"""What messages quote, and which errors mean that there is no memory."""

import pytest

from mrnet.errors import brief, in_a_line, ran_out_of_memory, visible


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, ["x" * 1000] * 1000, {i: {i: {i: {i: "x" * 100}}} for i in range(100)}, 10**3000, b"x" * 10**6],
)
def test_a_message_quotes_little(value: object) -> None:
    assert len(brief(value)) < 2000
    assert "\n" not in brief(value)


@pytest.mark.parametrize("value", [None, "a\nb", [1, 2.5, "x"], {"a": [1]}])
def test_what_is_short_is_quoted_as_it_is(value: object) -> None:
    assert brief(value) == repr(value)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (RuntimeError("could not create a primitive"), True),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            ),
            True,
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("unable to mmap 9 bytes from file <x>: Cannot allocate memory (12)"), True),
        (ImportError("tokenizers.so: failed to map segment from shared object"), True),
        (ImportError("no module named x"), False),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_no_memory(error: Exception, is_memory: bool) -> None:
    assert ran_out_of_memory(error) == is_memory


def test_a_message_is_one_line_of_bearable_length() -> None:
    assert in_a_line("one\n  two ") == "one two"
    long = in_a_line("start " + "x" * 5000 + " end")
    assert (long[:6], long[-4:], len(long)) == ("start ", " end", 1003)
    assert in_a_line("\x1b[2J\n gone") == r"\x1b[2J gone"


def test_what_would_steer_a_terminal_is_shown() -> None:
    assert visible("\x1b]0;mine\x07a\n\tb\r\x9b2J\x7f\u202efdp.exe") == (
        r"\x1b]0;mine\x07a\n\tb\r\x9b2J\x7f\u202efdp.exe"
    )
    for name in (
        r"C:\new\film.mp4",
        "плёнка  2.mp4",
        "می\u200cروم 👩\u200d🍳.mp4",
        "at\u202f3.41 PM.mov",
        "caf\udce9",
    ):
        assert visible(name) == name
