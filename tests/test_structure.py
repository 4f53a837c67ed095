"""The rooms and their arrows: who may import whom, and what the README promises."""

import ast
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("vosdata", "synth", "shards")
HEAVY = {"torch", "webdataset", "datasets", "albumentations", "pyarrow", "cv2"}


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported_modules(path: Path, only_top_level: bool = False) -> Iterator[str]:
    """Yields the dotted names that a file imports; type-checking-only imports do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        deferred = only_top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if guarded or deferred:
            skipped.update(child for child in ast.walk(node) if child is not node)
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            if node.module:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(files: list[Path], forbidden: set[str], only_top_level: bool = False) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        for module in imported_modules(path, only_top_level)
        if any(module == name or module.startswith(name + ".") for name in forbidden)
    ]


def test_the_checker_sees_a_forbidden_import(tmp_path: Path) -> None:
    bad = ROOT / "shards" / "types.py"
    assert violations([bad], {"numpy"}), "types.py imports numpy, so this must find it"
    assert not violations([bad], {"torch"})


def test_shards_import_no_other_room_and_no_torch() -> None:
    assert not violations(sources("shards"), {"vosdata", "synth", "tests", "benchmarks", "torch"})


def test_synth_imports_only_shards_and_no_torch() -> None:
    files = [path for path in sources("synth") if path.name not in ("render_torch.py", "resident.py")]
    assert not violations(files, {"vosdata", "tests", "benchmarks", "torch"})


def test_vosdata_imports_neither_tests_nor_benchmarks() -> None:
    assert not violations(sources("vosdata"), {"tests", "benchmarks"})


def test_model_code_imports_no_data_code() -> None:
    forbidden = {"synth", "vosdata.datasets", "vosdata.stream", "vosdata.pack", "vosdata.train", "vosdata.cli"}
    allowed_of_shards = {"shards.errors"}
    files = sorted((ROOT / "vosdata" / "models").rglob("*.py"))
    assert files
    assert not violations(files, forbidden)
    reached = {m for path in files for m in imported_modules(path) if m == "shards" or m.startswith("shards.")}
    assert all(any(m == a or m.startswith(a + ".") for a in allowed_of_shards) for m in reached), reached


def test_commands_import_nothing_heavy_at_the_top() -> None:
    files = sorted((ROOT / "vosdata" / "cli").glob("*.py"))
    assert not violations(files, HEAVY, only_top_level=True)


@pytest.mark.parametrize("module", ["vosdata", "shards.reader", "synth.generate", "vosdata.pack", "vosdata.recipe"])
def test_making_and_packing_work_without_importing_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_answers_in_half_a_second() -> None:
    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    times = []
    for _ in range(3):
        start = used()
        subprocess.run([sys.executable, "-m", "vosdata", "--help"], check=True, capture_output=True)
        times.append(used() - start)
    assert min(times) < 0.5


def test_no_test_folder_is_a_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_packages_in_pyproject_are_the_folders() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {".".join(p.parent.relative_to(ROOT).parts) for room in ROOMS for p in (ROOT / room).rglob("__init__.py")}
    assert listed == found | {"vosdata.recipes"}


def test_recipes_are_yaml_only_and_installed_as_package_data() -> None:
    from importlib.resources import files

    on_disk = {path.name for path in (ROOT / "recipes").iterdir() if path.name not in ("__pycache__", "__init__.py")}
    assert on_disk and all(name.endswith(".yaml") for name in on_disk)
    assert on_disk == {item.name for item in files("vosdata.recipes").iterdir() if item.name.endswith(".yaml")}


# --- README ---------------------------------------------------------------------------------------------------------


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def tree_paths() -> list[str]:
    """Paths of the README's file tree: the fenced block after '## File tree', two spaces of indent per level."""
    block = re.search(r"## File tree\n.*?```\n(.*?)```", readme(), re.S)
    assert block, "README has no '## File tree' with a fenced block"
    stack: list[str] = []
    paths = []
    for line in block.group(1).splitlines():
        if not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        for name in line.strip().split("  ")[0].split():
            stack = [*stack[:depth], name.rstrip("/")]
            paths.append("/".join(stack))
    return paths


def test_every_path_in_the_readme_tree_exists() -> None:
    missing = [path for path in tree_paths() if not (ROOT / path).exists()]
    assert not missing


def test_every_source_file_is_in_the_readme_tree() -> None:
    listed = set(tree_paths())
    files = [p for room in (*ROOMS, "recipes", "benchmarks") for p in (ROOT / room).rglob("*.*")]
    names = {
        str(path.relative_to(ROOT))
        for path in files
        if path.suffix in {".py", ".yaml", ".html"}
        and not path.name.startswith("__")
        and "__pycache__" not in path.parts
    }
    assert not names - listed


def readme_commands() -> list[str]:
    """Every ``vosdata ...`` line in the README's console blocks, with continuation lines joined."""
    blocks = re.findall(r"```console\n(.*?)```", readme(), re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+#.*$", "", line.removeprefix("$ ")).strip() for line in lines if "vosdata " in line]


def test_readme_commands_parse() -> None:
    import shlex

    import typer

    from vosdata.cli.app import build

    commands = [line for line in readme_commands() if line.startswith("vosdata ")]
    assert len(commands) >= 5
    for line in commands:
        name, *arguments = shlex.split(line)[1:]
        group = typer.main.get_command(build(name))
        command = group.commands[name]  # type: ignore[attr-defined]
        command.make_context(name, arguments)  # raises on an unknown option or a missing argument


def test_readme_names_every_command() -> None:
    from vosdata.cli.app import COMMANDS

    used = {line.split()[1] for line in readme_commands() if line.startswith("vosdata ")}
    assert set(COMMANDS) == used


def test_readme_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\$? ?make (\w+)", "\n".join(re.findall(r"```console\n(.*?)```", readme(), re.S)), re.M))
    assert {"demo", "test"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)
