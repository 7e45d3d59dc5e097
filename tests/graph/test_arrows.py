"""The arrows of the design, one way only: cli -> every room, workflows -> tasks -> lehr, lehr -> itself.

Rooms go by their place here: `cli` is what is imported as `lehr.cli`, and `lehr` the library without its upper rooms.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.graph.source import ROOMS, ROOT, UPPER, by_place, committed_files, imports, in_rooms, module_name, shown, sources

# A room may import: prefixes of our own modules. Itself is always allowed.
ARROWS = {
    "lehr": (),
    "monitoring": ("lehr",),
    "infra": (
        "monitoring.metrics",
        "monitoring.serving",
        "lehr.runtime.counters",
        "lehr.runtime.environment",
        "lehr.runtime.errors",
        "lehr.runtime.findings",
        "lehr.runtime.ports",
        "lehr.runtime.yaml_file",
    ),
    "tasks": ("lehr", "monitoring", "infra.pod", "infra.storage"),
    "workflows": ("tasks", "lehr", "monitoring"),
    "cli": ("lehr", "monitoring", "infra", "tasks", "workflows"),
}
# Inside infra: what each room may import of the others.
INFRA_ARROWS = {
    "fleet": (),
    "kube": (),
    "storage": (),
    "pod": ("fleet",),
    "controller": ("fleet", "kube"),
    "jobs": ("fleet", "kube", "pod"),
    "doctor": ("fleet", "kube", "pod", "jobs", "controller"),
    "simulate": ("fleet",),
}
WITHOUT_TORCH = ("workflows", "infra")
SERVICES = ("flytekit", "kubernetes", "mlflow", "boto3", "botocore", "prometheus_client")
# The library reads no service; monitoring and tasks are where they are met.
PACKAGE_OF_MODULE = {
    "xdist": "pytest-xdist",
    "grafana_foundation_sdk": "grafana-foundation-sdk",
    "olmo_core": "ai2-olmo-core",
    "lm_eval": "lm-eval",
    **dict.fromkeys(
        ("dpk_code_quality", "dpk_doc_quality", "dpk_fineweb_quality_annotator", "dpk_gopher_repetition_annotator"),
        "data-prep-toolkit-transforms",
    ),
    "yaml": "pyyaml",
    "kubernetes_validate": "kubernetes-validate",
    "mlflow": "mlflow-skinny",
    "prometheus_client": "prometheus-client",
    "pynvml": "nvidia-ml-py",
    "flytekitplugins": "flytekitplugins-kfpytorch",
    "markdown_it": "rich",  # which requires it
    "grpc": "flytekit",  # as rich
    "flyteidl": "flytekit",
    "google": "flytekit",  # its protobuf and the types of gRPC's errors
    "botocore": "boto3",  # which pins it, and s3transfer
    "s3transfer": "boto3",
    "math_verify": "math-verify",
    "referencing": "jsonschema",  # which requires it
}


def allowed(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in prefixes)


@pytest.mark.parametrize("room", ARROWS)
def test_arrows_go_one_way(room: str) -> None:
    wrong = [
        f"{shown(path, line)} imports {name}"
        for path in in_rooms(room)
        for name, line in imports(path)
        if name.split(".")[0] in (*ROOMS, "tests") and not allowed(by_place(name), (room, *ARROWS[room]))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", INFRA_ARROWS)
def test_arrows_inside_infra(room: str) -> None:
    allowed_rooms = tuple(f"infra.{name}" for name in (room, *INFRA_ARROWS[room]))
    wrong = [
        f"{shown(path, line)} imports {name}"
        for path in in_rooms("infra")
        if path.relative_to(ROOT).parts[1] == room
        for name, line in imports(path)
        if by_place(name).startswith("infra.") and not allowed(by_place(name), allowed_rooms)
    ]
    assert not wrong, "\n".join(wrong)
    loose = [path.name for path in (ROOT / "infra").glob("*.py")] + [path.name for path in (ROOT / "lehr").glob("*.py")]
    assert loose == ["__init__.py", "__init__.py"], "a module outside of every room"


CHART_KEYS = {"monitoring.rules", "monitoring.dashboards"}  # values of the chart that have a module's name


def test_rooms_go_by_one_name() -> None:
    """An installation adds `lehr` and nothing else, and no file is loaded under two names."""
    wrong = [
        f"{shown(path, line)} imports {name}"
        for path in sources()
        for name, line in imports(path)
        if name.split(".")[0] in UPPER
    ]
    for room in UPPER:
        names = "|".join({by_place(module_name(p)).split(".")[1] for p in in_rooms(room) if by_place(module_name(p)) != room})
        bare = re.compile(rf"(?<![\w./-]){room}\.(?:{names})\b|getLogger\(.{room}.\)")
        for path in committed_files():
            if path.suffix in (".py", ".yaml", ".md", ".toml") and not path.is_relative_to(ROOT / "tests" / "graph"):
                lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
                hits = [f"{shown(path, line)}: {found[0]}" for line, text in lines for found in bare.finditer(text)]
                wrong += [hit for hit in hits if hit.rpartition(" ")[2] not in CHART_KEYS]
    assert not wrong, "\n".join(wrong)


def test_every_room_is_found_behind_its_link() -> None:
    """Relative, so that each checkout imports its own files; and nothing of the library hides behind one."""
    links = {path.name: path for path in (ROOT / "lehr").iterdir() if path.is_symlink()}
    assert set(links) == {*UPPER, "recipes"}
    for name, link in links.items():
        assert link.readlink() == Path("..", name) and link.resolve() == ROOT / name


def test_workflows_and_infra_never_import_torch() -> None:
    wrong = [
        f"{shown(path, line)} imports {name}"
        for path in in_rooms(*WITHOUT_TORCH)
        for name, line in imports(path)
        if name.split(".")[0] == "torch" and not module_name(path).startswith("lehr.infra.pod.probes")
    ]
    assert not wrong, "\n".join(wrong)


def test_library_knows_no_service() -> None:
    wrong = [
        f"{shown(p, line)} imports {name}"
        for p in in_rooms("lehr")
        for name, line in imports(p)
        if name.split(".")[0] in SERVICES
    ]
    assert not wrong, "\n".join(wrong)


def test_only_tasks_and_workflows_know_flytekit() -> None:
    """All else runs where flytekit does not install. Where it does, it is there, and no test is left out for its lack."""
    wrong = [
        f"{shown(path, line)} imports {name}"
        for path in in_rooms(*(room for room in ROOMS if room not in ("tasks", "workflows")))
        for name, line in imports(path)
        if name.split(".")[0] in ("flytekit", "flytekitplugins")
    ]
    assert not wrong, "\n".join(wrong)
    assert sys.version_info >= (3, 13) or importlib.util.find_spec("flytekit") is not None


def test_flytekit_is_a_thin_layer() -> None:
    """All files of ours that import it, together: an engine is exchanged, or its next version taken in, in an afternoon. Those
    that talk to Flyte's admin service for `lehr submit` are counted apart."""
    files = {path for path in in_rooms("tasks", "workflows") for name, _ in imports(path) if name.startswith("flytekit")}
    clients = {path for path in files if path.name.startswith("flyte_")}
    for part, most in ((files - clients, 400), (clients, 320)):
        assert part and sum(len(path.read_text().splitlines()) for path in part) <= most


def test_every_third_party_import_is_a_pinned_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = [*project["dependencies"], *(pin for extra in project["optional-dependencies"].values() for pin in extra)]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^=]+|lehr\[.*\]", pin) for pin in pins), pins
    declared = {re.split(r"[=\[]", pin)[0].lower() for pin in pins}
    known = {"lehr", "tests", "benchmarks", "helm", *sys.stdlib_module_names}
    wrong = [
        f"{shown(path, line)} imports {name}"
        for path in sources()
        for name, line in imports(path)
        if (top := name.split(".")[0]) not in known
        and not (path.parent / f"{top}.py").is_file()  # a test's own helper, beside it
        and (package := PACKAGE_OF_MODULE.get(top, top).lower()) not in declared
        and not (path.is_relative_to(ROOT / "benchmarks") and package in peers())
    ]
    assert not wrong, "\n".join(wrong)


def test_a_package_that_an_extra_brings_is_named_with_it_where_it_is_missing() -> None:
    from lehr.cli.failure import EXTRAS

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    brings = {name: {pin.split("==")[0] for pin in pins} for name, pins in project["optional-dependencies"].items()}
    base = {pin.split("==")[0] for pin in project["dependencies"]}
    wrong = {
        f"{shown(path, line)}: {top} comes with no extra that lehr.cli.failure names"
        for path in in_rooms(*ROOMS)
        for name, line in imports(path)
        if (top := name.split(".")[0]) not in (*sys.stdlib_module_names, "lehr")
        and (package := PACKAGE_OF_MODULE.get(top, top)) not in base
        and package not in brings.get(EXTRAS.get(top, ""), set()) | {"boto3" if "cluster" in EXTRAS.get(top, "") else ""}
    }
    assert not wrong, "\n".join(sorted(wrong))


def peers() -> set[str]:
    """Packages that benchmarks compare with: they lie apart, pinned in the Makefile's `peers`, `lm-eval` and `taggers`."""
    recipes = re.findall(r"^(?:peers|lm-eval|taggers):.*\n((?:\t.*\n|  .*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(recipes) == 3, "the Makefile lacks the target `peers`, `lm-eval` or `taggers`"
    return {name.lower() for recipe in recipes for name in re.findall(r"([A-Za-z0-9._-]+)==", recipe)}


def test_no_circles_between_modules() -> None:
    """Of any kind: imports inside functions and for type checkers count as much as those at the top."""
    names = {module_name(p): p for p in in_rooms(*ROOMS)}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        targets = {t if t in names else t.rpartition(".")[0] for t, _ in imports(path)}
        graph[name] = {t for t in targets if t in names and t != name}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circle: {' -> '.join((*trail[trail.index(name) :], name))}"
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def _loaded(code: str) -> set[str]:
    probe = f"import sys\n{code}\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["show", "--help"], ["chat", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    modules = _loaded(f"from lehr.cli.main import main\nmain({arguments!r})")
    heavy = modules & {
        "torch",
        "flytekit",
        "mlflow",
        "numpy",
        "pydantic",
        "transformers",
        "tokenizers",
        "rich",
        "jinja2",
        "yaml",
        "lehr.tasks",
        "lehr.workflows",
    }
    assert "lehr.cli.main" in modules
    assert not heavy


def test_library_loads_without_services() -> None:
    names = [module_name(p) for p in in_rooms("lehr") if "export" not in p.name]
    modules = _loaded("import importlib\n" + "\n".join(f"importlib.import_module({n!r})" for n in names))
    assert not modules & {*SERVICES, "transformers"}


def test_workflows_load_without_loading_torch() -> None:
    pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")
    names = [module_name(p) for p in in_rooms("workflows")]
    if not names:
        pytest.skip("there are no workflows in this checkout")
    modules = _loaded("import importlib\n" + "\n".join(f"importlib.import_module({n!r})" for n in names))
    assert "torch" not in modules, "a task module imports torch at its top: import it inside the task"


def test_source_tree_is_what_the_tests_think_it_is() -> None:
    """Guards the guards: if the listing were empty, every rule above would hold."""
    assert Path(ROOT / "lehr/config/load.py") in sources()
    assert "lehr.runtime.errors.UserError" in [name for name, _ in imports(ROOT / "lehr/config/load.py")]
