"""The command as a whole: usage, errors, interruptions."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mrnet import __version__
from mrnet.cli import main
from tests.cli.conftest import Command, sets


class TestUsage:
    def test_version(self, command: Command) -> None:
        assert command("--version") == (0, f"mrnet {__version__}\n", "")

    @pytest.mark.parametrize(
        "words", [[], ["find"], ["train"], ["evaluate"], ["convert"], ["data", "check"], ["demo"]]
    )
    def test_help(self, command: Command, words: list[str]) -> None:
        status, out, err = command(*words, "--help")
        assert (status, err) == (0, "")
        assert out.startswith(" ".join(["usage: mrnet", *words]))

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (
                ["--nonsense", "find", "a.mp4", "a dog"],
                "mrnet: error: unrecognized arguments: --nonsense (see mrnet --help)",
            ),
            (
                ["find", "a.mp4", "a dog", "--nonsense"],
                "mrnet find: error: unrecognized arguments: --nonsense (see mrnet find --help)",
            ),
            (
                ["find", "a.mp4", "a", "dog"],
                "mrnet find: error: unrecognized arguments: dog: what holds spaces stands in quotes "
                "(see mrnet find --help)",
            ),
            ([], "mrnet: error: the following arguments are required: COMMAND (see mrnet --help)"),
            (
                ["find", "a.mp4"],
                "mrnet: error: ask one thing: a sentence in quotes, --queries FILE, --speech FILE or --record",
            ),
            (
                ["find", "a.mp4", "a dog", "-k", "0"],
                "mrnet find: error: argument -k: 0 is not at least 1 (see mrnet find --help)",
            ),
            (
                ["find", "a.mp4", "a dog", "-k", "-3"],
                "mrnet find: error: argument -k: -3 is not at least 1 (see mrnet find --help)",
            ),
            (
                ["find", "a.mp4", "a dog", "--memory-budget", "9999999GB"],
                "mrnet find: error: argument --memory-budget: '9999999GB' is no size in KB, MB or GB, e.g. 500MB (see "
                "mrnet find --help)",
            ),
            (
                ["find", "a.mp4", "a dog", "-k", "many"],
                "mrnet find: error: argument -k: 'many' is no whole number (see mrnet find --help)",
            ),
            (
                ["train", "--recipe", "tacos"],
                "mrnet train: error: the following arguments are required: --out (see mrnet train --help)",
            ),
            (
                ["export", "model", "--outt", "onnx"],
                "mrnet export: error: the following arguments are required: --out; unrecognized: --outt "
                "(see mrnet export --help)",
            ),
            (
                ["evaluate", "--checkpiont=a", "--set", "x=1"],
                "mrnet evaluate: error: one of the arguments --checkpoint --predictions --untrained is required; "
                "unrecognized: --checkpiont (see mrnet evaluate --help)",
            ),
            (
                ["evaluate"],
                "mrnet evaluate: error: one of the arguments --checkpoint --predictions --untrained is required "
                "(see mrnet evaluate --help)",
            ),
            (
                ["evaluate", "--checkpoint", "a", "--predictions", "b"],
                "mrnet evaluate: error: argument --predictions: not allowed with argument --checkpoint "
                "(see mrnet evaluate --help)",
            ),
            (
                ["convert", "a.pth", "--out", "b"],
                "mrnet convert: error: the following arguments are required: --config (see mrnet convert --help)",
            ),
            (["data"], "mrnet data: error: the following arguments are required: ACTION (see mrnet data --help)"),
            (
                ["data", "check", "a.json", "--dim", "0"],
                "mrnet data check: error: argument --dim: 0 is not at least 1 (see mrnet data check --help)",
            ),
            (
                ["demo", "--seed", "x"],
                "mrnet demo: error: argument --seed: invalid int value: 'x' (see mrnet demo --help)",
            ),
        ],
    )
    def test_one_line(self, command: Command, words: list[str], message: str) -> None:
        assert command.refuses(*words) == message

    def test_unknown_command(self, command: Command) -> None:
        line = command.refuses("fnid", "a.mp4")
        assert line.startswith("mrnet: error: argument COMMAND: invalid choice: 'fnid' (choose from ")
        for name in ("demo", "find", "train", "evaluate", "convert", "data"):
            assert name in line


class TestProcess:
    def start(self, *words: str | Path, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mrnet", *map(str, words)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)

    def test_closed_pipe(self, tmp_path: Path) -> None:
        rows = [{"video": f"v{i}", "start": 5, "end": 4, "query": "x", "duration": 9} for i in range(9)]
        (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
        read, write = os.pipe()
        os.close(read)
        process = self.start("data", "check", "a.jsonl", stdout=write, cwd=tmp_path)
        os.close(write)
        _, err = process.communicate(timeout=300)
        assert err == ""
        assert process.returncode == 1

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
    def test_full_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        record = {"duration": 9, "timestamps": [[0, 3]], "sentences": ["a dog"]}
        (tmp_path / "a.json").write_text(json.dumps({"v": record}))
        with Path("/dev/full").open("w", buffering=1) as full:
            monkeypatch.setattr(sys, "stdout", full)
            status = main(["data", "check", str(tmp_path / "a.json")])
        assert status == 2
        assert len(capsys.readouterr().err.splitlines()) == 1

    def test_no_standard_output(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        record = {"duration": 9, "timestamps": [[0, 3]], "sentences": ["a dog"]}
        (tmp_path / "a.json").write_text(json.dumps({"v": record}))
        monkeypatch.setattr(sys, "stdout", None)  # as Python has it after >&-
        assert main(["data", "check", str(tmp_path / "a.json")]) == 0

    def test_ctrl_c_in_a_callback_is_not_lost(self) -> None:
        """A weak reference's callback that is interrupted tells nobody; the command ends all the same."""
        program = (
            "import signal, sys, time, weakref\n"
            "from mrnet import cli\n"
            "class Thing: pass\n"
            "def run(arguments):\n"
            "    thing = Thing()\n"
            "    kept = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))\n"
            "    del thing\n"
            "    for _ in range(10000): time.sleep(0.01)\n"
            "import mrnet.cli.cache\n"
            "mrnet.cli.cache.run = run\n"
            "sys.exit(cli.main(['cache']))\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
        assert done.returncode == 130
        assert done.stderr == "mrnet: interrupted\n"

    def test_ctrl_c_in_training(self, tmp_path: Path, data_set: list[str]) -> None:
        more = sets("train.epochs=100000", "train.full_loss_epochs=100000")
        words = ["train", "--recipe", "demo", *data_set, *more, "--out", tmp_path / "run", "--cpu"]
        process = self.start(*words, stdout=subprocess.PIPE)
        saved = tmp_path / "run" / "run.json"
        try:
            deadline = time.monotonic() + 300
            while not (saved.exists() and json.loads(saved.read_text())["history"]):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
        assert process.returncode == 130
        assert "Traceback" not in err
        assert err.splitlines()[-1] == "mrnet: interrupted"
        assert out == ""
        run = json.loads(saved.read_text())  # whole, whenever the signal came
        assert [record["epoch"] for record in run["history"]] == list(range(1, len(run["history"]) + 1))
        assert (tmp_path / "run" / "checkpoints" / run["last"] / "mrnet.json").is_file()


class TestOutput:
    """What is found is printed, whatever letters a terminal has."""

    def printed(self, monkeypatch: pytest.MonkeyPatch, encoding: str, *words: str) -> tuple[int, str]:
        terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", terminal)
            patched.setattr(sys, "stderr", terminal)
            status = main(words)
            terminal.flush()
        return status, terminal.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
    @pytest.mark.parametrize("form", ["--json", "--csv"])
    def test_letters_that_a_terminal_lacks(
        self, video: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, form: str, encoding: str
    ) -> None:
        query = "der Hund spri\u0144gt \U0001f415 \udcff"
        words = ["find", str(video), query, "--checkpoint", str(checkpoint), form]
        status, printed = self.printed(monkeypatch, encoding, *words)
        assert status == 0
        if form == "--json":
            assert json.loads(printed)["query"] == query
        else:
            escaped = query.encode(encoding, "backslashreplace").decode(encoding)
            assert printed.splitlines()[1].endswith(f",{escaped}")

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
    def test_names_that_are_no_letters(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
    ) -> None:
        missing = tmp_path / os.fsdecode(b"\xff.mp4")
        status, printed = self.printed(monkeypatch, encoding, "find", str(missing), "a dog")
        assert (status, printed[:14]) == (2, "mrnet: error: ")
        assert "\\udcff.mp4: no such file" in printed


class TestLength:
    @pytest.mark.parametrize(
        "words",
        [["find", "a" * 5000 + ".mp4", "x"], ["train", "--out", "run", "--recipe", "a" * 5000], ["x" * 5000]],
    )
    def test_a_message_fits_a_screen(self, command: Command, words: list[str]) -> None:
        line = command.refuses(*words)
        assert len(line) < 1100
        assert " … " in line


class TestMemory:
    @pytest.mark.parametrize(
        "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 10 bytes")]
    )
    def test_none_left(self, command: Command, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def run(_: object) -> int:
            raise error

        monkeypatch.setattr("mrnet.cli.cache.run", run)
        assert command.refuses("cache") == (
            "mrnet: error: there is not enough memory for this: free some, or ask for less"
        )

    def test_other_errors_are_ours(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        def run(_: object) -> int:
            raise RuntimeError("a bug")

        monkeypatch.setattr("mrnet.cli.cache.run", run)
        with pytest.raises(RuntimeError, match="a bug"):
            command("cache")


class TestInterruption:
    def test_ctrl_c_while_importing(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        def import_module(_: str) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("importlib.import_module", import_module)
        assert command("find", "a.mp4", "a dog") == (130, "", "mrnet: interrupted\n")

    def test_ctrl_c_that_became_another_error(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        class Interrupts:
            def __set_name__(self, *_: object) -> None:  # Python 3.11 makes a RuntimeError of what comes out of it
                raise KeyboardInterrupt

        def run(_: object) -> int:
            type("Library", (), {"field": Interrupts()})
            return 0

        monkeypatch.setattr("mrnet.cli.cache.run", run)
        assert command("cache") == (130, "", "mrnet: interrupted\n")
