import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import onnx.parser
import pytest
from click.testing import CliRunner

import toolchain
from calibration.data import Preprocessing
from toolchain.cli import main
from toolchain.commands.model import SECTIONS, run
from toolchain.errors import ModelError
from toolchain.gates.limits import Gates
from toolchain.planning.plan import Device
from toolchain.progress import NullProgress, PlainProgress

ROOT = Path(__file__).parents[1]


@dataclass
class Library:
    """Stands for ``toolchain.pipeline``: remembers what it is asked for."""

    calls: list = field(default_factory=list)
    error: BaseException | None = None

    def compress(self, model, **options):
        self.calls.append({"model": model, **options})
        if self.error is not None:
            raise self.error
        return Result(Path("small.onnx"), {"schema": 1}, Path("small-report/report.html"))


@dataclass
class Result:
    path: Path
    report: dict
    report_path: Path
    gates: tuple = ()


@pytest.fixture
def library(monkeypatch):
    found = Library()
    module = ModuleType("toolchain.pipeline")
    module.compress = found.compress
    monkeypatch.setitem(sys.modules, "toolchain.pipeline", module)
    monkeypatch.setattr(
        "toolchain.measure.render_terminal", lambda report, colour: f"\x1b[{colour:d}msummary of {report}\x1b[0m"
    )
    return found


def call(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_the_bare_form_calls_the_library_and_prints_where_things_are(library):
    result = call("model.onnx", "--prune", "36x", "--quant", "2bit")
    assert result.exit_code == 0, result.output
    (asked,) = library.calls
    assert asked.pop("progress").__class__ is PlainProgress
    assert asked == {
        "model": Path("model.onnx"),
        "prune": "36x",
        "structure": None,
        "round_to": None,
        "first_last": None,
        "quant": "2bit",
        "data": None,
        "evaluation": None,
        "output": None,
        "report": None,
        "epochs": None,
        "budget": None,
        "device": "auto",
        "seed": 0,
        "recipe": None,
        "preprocessing": None,
        "resume": False,
        "augment": None,
        "learning_rate": None,
        "precision": None,
        "allocate": None,
        "target": None,
        "objective": None,
        "encoding": None,
        "gates": Gates(),
    }
    assert result.stdout.startswith("summary of")
    assert "model   small.onnx" in result.stdout
    assert str(Path("small-report/report.html")) in result.stdout


def test_every_option_reaches_the_library(library):
    options = (
        "--data d.npz --eval e.npz --scale 1/255 --mean 0.5,0.25 --std 1,2 --layout nhwc --epochs 3 "
        "--augment shift4,flip --learning-rate 4e-3 --precision bfloat16 --allocate flops --device cpu --seed 5 "
        "--target portable --objective size --encoding dense --resume -o out.onnx --report folder "
        "--structure channel --round 4 --recipe r.toml --quiet"
    )
    assert call("model.onnx", *options.split()).exit_code == 0
    (asked,) = library.calls
    assert (asked["data"], asked["evaluation"]) == ("d.npz", "e.npz")
    assert asked["preprocessing"] == Preprocessing(1 / 255, (0.5, 0.25), (1.0, 2.0), "nhwc")
    assert (asked["epochs"], asked["device"], asked["seed"], asked["resume"]) == (3, "cpu", 5, True)
    assert (asked["learning_rate"], asked["precision"]) == (4e-3, "bfloat16")
    assert (asked["structure"], asked["round_to"]) == ("channel", 4)
    assert (asked["augment"], asked["allocate"]) == ("shift4,flip", "flops")
    assert (asked["target"], asked["objective"], asked["encoding"]) == ("portable", "size", "dense")
    assert (asked["output"], asked["report"], asked["recipe"]) == (Path("out.onnx"), Path("folder"), Path("r.toml"))
    assert isinstance(asked["progress"], NullProgress)


def test_options_may_come_before_the_model(library):
    assert call("--budget", "10m", "--prune", "97%", "model.onnx").exit_code == 0
    assert (library.calls[0]["model"], library.calls[0]["budget"]) == (Path("model.onnx"), "10m")


def test_quiet_prints_nothing(library):
    result = call("model.onnx", "--quant", "2bit", "-q")
    assert library.calls
    assert result.output == ""


def test_a_file_named_like_a_command_is_reached_with_its_folder(library, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").write_bytes(b"")
    assert call("./demo", "--quant", "2bit").exit_code == 0
    assert library.calls[0]["model"] == Path("./demo")


def test_an_error_of_the_library_is_printed_with_its_hint_and_exits_with_1(library):
    library.error = ModelError("the file is torn", hint="mend it")
    result = call("model.onnx", "--quant", "2bit")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["error: the file is torn", "hint: mend it"]
    assert result.stdout == ""


def test_verbose_adds_the_traceback(library):
    library.error = ModelError("the file is torn")
    result = call("model.onnx", "--quant", "2bit", "--verbose")
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1] == "error: the file is torn"


def test_ctrl_c_exits_with_130_and_says_so(library):
    library.error = KeyboardInterrupt()
    result = call("model.onnx", "--quant", "2bit")
    assert result.exit_code == 130
    assert "interrupted: no file is half-written" in result.stderr
    assert "--resume" not in result.stderr


def test_ctrl_c_says_how_to_go_on_where_there_is_a_checkpoint(library, tmp_path):
    library.error = KeyboardInterrupt()
    (tmp_path / "small.checkpoint.safetensors").write_bytes(b"")
    result = call(tmp_path / "model.onnx", "--quant", "2bit", "-o", tmp_path / "small.onnx")
    assert f"--resume goes on from {tmp_path / 'small.checkpoint.safetensors'}" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("model.onnx", "say what to do"),
        ("model.onnx --prune 36", "ambiguous"),
        ("model.onnx --prune 1x", "prunes nothing"),
        ("model.onnx --quant 7bit", "not a known grid"),
        ("model.onnx --quant 2bit --budget soon", "not a duration"),
        ("model.onnx --quant 2bit --budget 10m --epochs 3", "exclude each other"),
        ("model.onnx --quant 2bit --epochs -1", "-1"),
        ("model.onnx --quant 2bit --augment flop", "did you mean flip"),
        ("model.onnx --quant 2bit --mean 1", "need --data or --eval"),
        ("model.onnx --quant 2bit --data d.npz --mean a,b", "not a list of numbers"),
        ("model.onnx --quant 2bit --data d.npz --scale 1,2", "not one number"),
        ("model.onnx --quant 2bit --data d.npz --scale 1/0", "not a list of numbers"),
        ("model.onnx --quant 2bit --prun 36x", "--prune"),
        ("--quant 2bit", "Missing argument"),
        ("inspct model.onnx", "did you mean inspect"),
        ("inspect", "Missing argument"),
    ],
)
def test_wrong_usage_exits_with_2_says_why_and_starts_nothing(library, args, message):
    result = call(*args.split())
    assert result.exit_code == 2
    assert message in result.stderr
    assert not library.calls


def test_no_arguments_show_the_help():
    assert call().exit_code == 2
    assert "Usage: compress" in call().output.replace("main", "compress")


def test_help_is_one_page_with_options_by_section_commands_and_examples():
    pages = [call("--help").output, call("model.onnx", "--help").output]
    assert pages[0] == pages[1]
    for part in (*SECTIONS, "Commands:", "inspect", "demo", "Examples:", "--prune 36x --quant 2bit"):
        assert part in pages[0]


def test_every_option_is_in_exactly_one_section():
    listed = [name for names in SECTIONS.values() for name in names]
    options = [param.name for param in run.params if param.param_type_name == "option"]
    assert sorted(listed) == sorted(options)


def test_choices_are_those_of_the_library():
    (device,) = [param for param in run.params if param.name == "device"]
    assert tuple(device.type.choices) == Device.__args__


def test_the_version_is_that_of_the_package():
    assert call("--version").output.split()[-1] == importlib.metadata.version("onnx-compress")


def test_every_command_and_option_is_in_the_readme_or_a_page_that_it_links_to():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = set(re.findall(r"\((docs/\w+\.md)[)#]", readme))
    text = readme + "".join((ROOT / page).read_text(encoding="utf-8") for page in pages)
    for command in (run, *main.commands.values()):
        assert command is run or f"compress {command.name}" in text, command.name
        for param in command.params:
            for name in param.opts if param.param_type_name == "option" else ():
                assert re.search(rf"(`|\s){name}\b", text), f"{command.name} {name}"


def test_help_answers_at_once_and_imports_nothing_heavy():
    code = (
        "import sys, toolchain.cli\n"
        "print([name for name in ('numpy', 'onnx', 'onnxruntime', 'rich', 'torch') if name in sys.modules])"
    )
    environment = dict(os.environ)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == "[]"
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "toolchain.cli", "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.4


def test_the_package_gives_compress_on_first_use_and_nothing_else(library):
    assert toolchain.compress == library.compress
    with pytest.raises(AttributeError, match="no attribute 'decompress'"):
        toolchain.decompress  # noqa: B018 - the access itself is what is tested


def test_inspect_prints_a_table_or_json(tmp_path):
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2] x) => (float[1, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { y = MatMul(x, w) }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    result = call("inspect", tmp_path / "model.onnx")
    assert result.exit_code == 0, result.output
    assert "1 of 1 tensors can be pruned" in result.stdout
    assert json.loads(call("inspect", "--json", tmp_path / "model.onnx").stdout)["usable_weights"] == 4


def test_inspect_of_a_missing_file_is_an_error_with_a_hint(tmp_path):
    result = call("inspect", tmp_path / "model.onnx")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: cannot read")
    assert "hint:" in result.stderr


def test_demo_compresses_into_its_folder_and_says_where_the_report_is(library, monkeypatch, tmp_path):
    module = ModuleType("toolchain.demo")
    module.run_demo = lambda folder, progress: library.compress(folder, progress=progress)
    monkeypatch.setitem(sys.modules, "toolchain.demo", module)
    result = call("demo", "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert library.calls[0]["model"] == tmp_path
    assert "report.html" in result.stdout
