"""The layers of the house, what importing costs, and what may lie in the repository."""

import ast
import graphlib
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import attentdiffernet

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "attentdiffernet").rglob("*.py"))


def imported(path):
    """Top-level names of all absolute imports, however deep in the code they stand."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


def python(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_library_never_imports_upward(path):
    assert not set(imported(path)) & {"gradio", "streamlit", "demo", "app", "tests", "scripts", "spaces"}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_on_import(path, modules):
    """Modules of the library that a file imports at its top level: not in functions, nor for type checkers alone."""
    package = module_name(path).split(".") if path.name == "__init__.py" else module_name(path).split(".")[:-1]
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join(package[: len(package) - node.level + 1] + (node.module or "").split(".")).rstrip(".")
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base


def test_imports_form_no_circle():
    modules = {module_name(path) for path in LIBRARY}
    graph = {module_name(path): set(imported_on_import(path, modules)) for path in LIBRARY}
    assert graph["attentdiffernet.checkpoint"] >= {"attentdiffernet.files", "attentdiffernet.findings"}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError with the circle


TORCH_MODES = re.compile(r"\btorch\.|\bin_float32\(|\bas_published\(")


def test_no_torch_mode_outlives_a_yield():
    """Until the generator goes on, it would hold in the caller's loop: no gradients, and so no Grad-CAM."""
    held = []
    for path in LIBRARY:
        for block in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modes = [ast.unparse(item) for item in block.items] if isinstance(block, ast.With) else []
            if any(map(TORCH_MODES.search, modes)) and any(isinstance(node, ast.Yield) for node in ast.walk(block)):
                held.append((path.name, block.lineno))
    assert held == []


def test_nothing_changes_where_python_looks_for_modules():
    sources = [path for path in committed() if path.suffix == ".py" and path != Path(__file__).resolve()]
    assert sources and not [path for path in sources if re.search(r"\bsys\.path\b", path.read_text(encoding="utf-8"))]


@pytest.mark.process
def test_right_of_the_bar_there_is_no_torch():
    modules = ["figures", "options", "findings", "format2", "card", "errors", "files", "words", "study"]
    modules += ["datasets", "images", "sources", "category"]
    modules += [f"study.{path.stem}" for path in (ROOT / "attentdiffernet" / "study").glob("[a-z]*.py")]
    modules += [f"datasets.{name}" for name in ("sample", "archives", "layouts", "pickles", "wafer", "prepare")]
    loads = "; ".join(f"import attentdiffernet.{name}" for name in modules)
    done = python(
        f"{loads}; import sys; print([m for m in ('torch', 'torchvision', 'FrEIA', 'cv2') if m in sys.modules])"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.process
def test_importing_the_package_is_cheap():
    done = python(
        "import sys, attentdiffernet; print([m for m in ('torch', 'numpy', 'pandas', 'PIL') if m in sys.modules])"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.process
def test_help_does_not_wait_for_heavy_imports():
    done = python(
        "import sys, attentdiffernet.cli; print([m for m in ('torch', 'numpy', 'pandas', 'PIL') if m in sys.modules])"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_public_names():
    assert attentdiffernet.__all__ == sorted(attentdiffernet.__all__)
    assert set(attentdiffernet.__all__) == set(attentdiffernet._HOME), "promised and delivered"
    for name in attentdiffernet.__all__:
        home = importlib.import_module(f"attentdiffernet.{attentdiffernet._HOME[name]}")
        assert getattr(attentdiffernet, name) is getattr(home, name)
    assert set(attentdiffernet.__all__) <= set(dir(attentdiffernet))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = attentdiffernet.nothing
    typed = ast.parse((ROOT / "attentdiffernet" / "__init__.py").read_text(encoding="utf-8"))
    checked = {
        a.name for node in ast.walk(typed) if isinstance(node, ast.ImportFrom) and node.level for a in node.names
    }
    assert checked == set(attentdiffernet.__all__), "type checkers see the same names"


def test_every_error_for_users_is_of_one_family():
    from attentdiffernet import errors

    kinds = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(kinds) == 6 and all(issubclass(kind, errors.AttentDifferNetError) for kind in kinds)
    assert issubclass(errors.AttentDifferNetError, ValueError)


def committed():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_is_large_and_none_is_a_pickle():
    files = committed()
    assert not [path.name for path in files if path.stat().st_size > 6_000_000]
    assert not [path.name for path in files if path.suffix in {".pkl", ".pickle", ".pt", ".pth", ".joblib"}]
    assert sum(path.stat().st_size for path in files) < 80_000_000


def test_files_named_in_words_exist():
    """Examples of the command line and both READMEs name files to be run and read."""
    texts = [path for path in committed() if path.suffix in {".md", ".py", ".toml"} and "tests" not in path.parts]
    texts.append(ROOT / "Makefile")
    named = set()
    for path in texts:
        text = path.read_text(encoding="utf-8")
        named |= {
            (name, path.name) for name in re.findall(r"\b(?:grids|scripts|benchmarks|docs)/\w[\w/.-]*\.\w+", text)
        }
        modules = re.findall(r"python -m ((?:scripts|benchmarks)\.\w+)", text)
        named |= {(name.replace(".", "/") + ".py", path.name) for name in modules}
    assert named and not [place for place in named if not (ROOT / place[0]).is_file()]
