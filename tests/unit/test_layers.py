"""Imports point one way, and only the modules that need a heavy library import it."""

from __future__ import annotations

import ast
import graphlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import open_backend
from digits.settings import BACKENDS, Settings
from tests.helpers.support import ROOT, free_port

ENGINES = {"kfp", "kfp_kubernetes", "docker", "kubernetes", "testcontainers"}
HEAVY = {"tensorflow", "keras", "kfp", "mlflow", "kserve", "sklearn", "onnxruntime", "docker", "kubernetes", "numpy"}
# What each layer may import of the others. `digits.cli` is the top layer: it may import all, and none imports it.
ALLOWED = {
    "digits": {"digits"},
    "web_app": {"digits", "web_app"},
    "pipeline": {"digits", "pipeline"},
    "backends": {"digits", "pipeline", "backends"},
}
# The layers within `digits`, lowest first. A module may import its own folder and lower layers; the modules of the
# lowest layer may import each other.
LAYERS = (
    {
        "answers",
        "attempts",
        "entry_points",
        "errors",
        "events",
        "files",
        "findings",
        "homes",
        "http",
        "imports",
        "provenance",
        "proxies",
        "remedies",
        "results",
        "settings",
        "signature",
        "tasks",
        "variables",
    },
    {"store"},
    {"data"},
    {"training", "evaluation"},
    {"release"},
    {"serving", "steps", "pod_checks"},
    {"cli"},
    {"__main__"},
)


def sources(folder: str) -> list[Path]:
    top = {ROOT / "digits" / "__main__.py", *(ROOT / "digits" / "cli").rglob("*.py")}
    return sorted(set((ROOT / folder).rglob("*.py")) - top)


def imported(path: Path) -> Iterator[str]:
    """Yield the full names of all modules that a file imports, also within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("layer", ALLOWED)
def test_imports_point_one_way(layer: str) -> None:
    """No module imports a layer above its own, nor the command line."""
    files = sources(layer)
    assert files
    for path in files:
        for name in imported(path):
            assert name.split(".")[:2] != ["digits", "cli"], f"{path} imports {name}"
            top = name.split(".")[0]
            assert top not in ALLOWED or top in ALLOWED[layer], f"{path} imports {name}"


def test_imports_within_digits_point_one_way() -> None:
    """No module of `digits` imports a higher layer, nor another folder of its own layer."""
    levels = {unit: level for level, units in enumerate(LAYERS) for unit in units}
    for path in (ROOT / "digits").rglob("*.py"):
        unit = path.relative_to(ROOT / "digits").with_suffix("").parts[0]
        if unit == "__init__":
            continue
        for name in imported(path):
            package, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            if package == "digits" and target not in {unit, "__version__"}:
                lower = levels[target] < levels[unit]
                assert lower or levels[target] == levels[unit] == 0, f"{path} imports {name}"


def test_kserve_knows_no_kind_cluster() -> None:
    """`backends/kind` may use `backends/kserve`, which works on any cluster and imports nothing of kind."""
    for path in sources("backends/kserve"):
        assert not {name for name in imported(path) if name.startswith("backends.kind")}, path


def test_no_modules_import_each_other() -> None:
    """The imports of the product's modules, late ones too, make no circle."""
    paths = [path for folder in ALLOWED for path in (ROOT / folder).rglob("*.py")]
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}
    graph = {}
    for module, path in modules.items():
        uses = {name if name in modules else name.rpartition(".")[0] for name in imported(path)}
        graph[module] = (uses & set(modules)) - {module}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_domain_knows_no_engine() -> None:
    """`digits` imports neither kfp nor docker nor kubernetes, not even late."""
    for path in sources("digits"):
        assert not {name.split(".")[0] for name in imported(path)} & ENGINES, path


def test_only_training_knows_tensorflow() -> None:
    """TensorFlow and Keras are imported in the modules of training and nowhere else."""
    users = set()
    for folder in (*ALLOWED, "digits/cli"):
        for path in (ROOT / folder).rglob("*.py"):
            names = {name.split(".")[0] for name in imported(path)}
            if names & {"tensorflow", "keras", "tf2onnx"}:
                users.add(path.parent.relative_to(ROOT).as_posix())
    assert users == {"digits/training"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_the_menu_answers_at_once(arguments: list[str]) -> None:
    """`digits --help` imports none of the heavy libraries."""
    script = (
        "import sys; from digits.cli import cli; cli.main(sys.argv[1:], standalone_mode=False);"
        f"print(*(m for m in {sorted(HEAVY)!r} if m in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert "digits" in done.stdout


def test_every_command_of_the_menu_is_there() -> None:
    """Each command can be imported, and its help is more than its name."""
    from digits.cli import COMMANDS, Commands

    for name in COMMANDS:
        command = Commands().get_command(None, name)  # type: ignore[arg-type] # the context is not used
        assert command is not None
        assert command.help


@pytest.mark.parametrize(
    "module", ["backends.kserve.rollout", "backends.trainer.trainer", "backends.trainer.worker_main"]
)
def test_a_step_needs_only_the_packages_of_its_image(module: str) -> None:
    """What pods of steps import works without the packages that requirements/train.txt does not name."""
    lines = (ROOT / "requirements" / "train.txt").read_text().splitlines()
    installed = {line.partition("==")[0].replace("-", "_") for line in lines if "==" in line}
    lacking = sorted(
        package
        for package, names in importlib.metadata.packages_distributions().items()
        if not {name.lower().replace("-", "_") for name in names} & {*installed, "digits"}
    )
    assert "psutil" in lacking
    program = f"import sys; sys.modules.update(dict.fromkeys({lacking})); import {module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_predictors_command_needs_no_engine() -> None:
    """`digits serve` gets as far as the release where the backends are not installed, as in the predictor's image."""
    ports = [f"--{kind}-port={free_port()}" for kind in ("http", "grpc")]
    program = (
        "import sys; sys.modules['backends'] = sys.modules['pipeline'] = None\n"
        f"sys.argv = ['digits', 'serve', '--model-dir', '/nowhere', *{ports}]\n"
        "from digits.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert "error: /nowhere" in done.stderr


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_of_the_settings_is_opened(name: str, tmp_path: Path) -> None:
    """Each value of DIGITS_BACKEND is a backend of that name."""
    opened = open_backend(Settings(home=tmp_path, backend=name, kfp_host="http://127.0.0.1:9"))
    assert opened.name == name
    opened.close()


def test_a_local_backend_may_be_named_wherever_one_is_wanted() -> None:
    """`digits up` and `digits cluster deploy` take each backend that serves on this machine; none is written out."""
    from digits.cli.kind_cluster import deploy
    from digits.cli.up import up

    for command in (up, deploy):
        (option,) = (option for option in command.params if option.name == "backend")
        assert set(option.type.choices) == set(BACKENDS) - {"kubeflow"}
