"""House rules that a reader would otherwise have to check by eye."""

from __future__ import annotations

import ast
import re

from tests.graph.source import ROOMS, ROOT, committed_files, in_rooms, shown, sources

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
# Written apart, so that this file does not hold what it looks for.
HOSTS = [
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "registry." + "npmjs",
    "npmjs" + ".org",
    "proxy.golang" + ".org",
    "index-" + "url",
]
HOSTS += ["download.pytorch" + ".org", "conda." + "anaconda", "hub.docker" + ".com"]
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:home|root|Users|work|tmp/scratch)/\w")


def test_files_and_functions_stay_small() -> None:
    wrong = []
    for path, tree in sources().items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_FILE_LINES:
            wrong.append(f"{shown(path)}: {lines} lines, limit {MAX_FILE_LINES}")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    wrong.append(f"{shown(path, node.lineno)}: {node.name} has {length} lines, limit {MAX_FUNCTION_LINES}")
    assert not wrong, "\n".join(wrong)


def _is_silent(handler: ast.ExceptHandler) -> bool:
    broad = handler.type is None or (isinstance(handler.type, ast.Name) and handler.type.id in ("Exception", "BaseException"))
    nothing = all(
        isinstance(s, ast.Pass | ast.Continue) or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
        for s in handler.body
    )
    return handler.type is None or (broad and nothing)


def test_no_exception_is_swallowed() -> None:
    wrong = [
        shown(path, node.lineno)
        for path, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and _is_silent(node)
    ]
    assert not wrong, "\n".join(wrong)


def _reads_text_as_the_locale_has_it(call: ast.Call) -> bool:
    """An open file or a process whose text has no named encoding. Modes that nobody can read off the call are left alone."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in given:
        return False
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    if name in ("read_text", "write_text"):
        return True
    if owner == "subprocess":
        return isinstance(text := given.get("text"), ast.Constant) and text.value is True
    if name not in ("open", "fdopen", "NamedTemporaryFile") or owner in ("os", "tarfile") or owner[:1].isupper():
        return False
    place = 0 if owner and name == "open" and owner != "gzip" else 1
    mode = given.get("mode", call.args[place] if len(call.args) > place else None)
    if mode is None:
        return name == "open" and (not owner or (not call.args and not call.keywords))
    return isinstance(mode, ast.Constant) and isinstance(mode.value, str) and "b" not in mode.value


def test_text_has_one_encoding_whatever_the_locale() -> None:
    wrong = [
        shown(path, node.lineno)
        for path in in_rooms(*ROOMS)
        for node in ast.walk(sources()[path])
        if isinstance(node, ast.Call) and _reads_text_as_the_locale_has_it(node)
    ]
    assert not wrong, "\n".join(wrong)


def test_weights_are_never_pickled() -> None:
    wrong = []
    for path in in_rooms(*ROOMS):
        for node in ast.walk(sources()[path]):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
                if any(n.split(".")[0] in ("pickle", "dill", "joblib", "shelve") for n in names):
                    wrong.append(f"{shown(path, node.lineno)} imports a pickler")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "torch":
                safe = any(
                    k.arg == "weights_only" and isinstance(k.value, ast.Constant) and k.value.value is True
                    for k in node.keywords
                )
                if node.func.attr == "save" or (node.func.attr == "load" and not safe):
                    wrong.append(f"{shown(path, node.lineno)} calls torch.{node.func.attr}; use safetensors")
    assert not wrong, "\n".join(wrong)


def _texts() -> dict[str, str]:
    found = {}
    for path in committed_files():
        raw = path.read_bytes()
        if b"\0" not in raw[:4096] and path.suffix not in (".gz", ".xz"):
            found[shown(path)] = raw.decode("utf-8")  # a text file that is not UTF-8 fails here
    return found


def test_no_registry_host_and_no_machine_path_is_committed() -> None:
    wrong = []
    for name, text in _texts().items():
        for number, line in enumerate(text.splitlines(), 1):
            if any(host in line.lower() for host in HOSTS) and not name.startswith("tests/graph/"):
                if name == "Makefile" and "--no-emit-" in line:
                    continue  # says that no address is written
                if name == "Dockerfile" and '--index-url "${TORCH_INDEX}"' in line:
                    continue  # an address that whoever builds gives
                wrong.append(f"{name}:{number}: names a package registry: {line.strip()[:100]}")
            if MACHINE_PATHS.search(line) and not name.startswith("tests/graph/"):
                wrong.append(f"{name}:{number}: names a path of one machine: {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)


def test_nothing_is_left_to_do() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    wrong = [
        f"{n}: {m.group()}" for n, text in _texts().items() if not n.startswith("recipes/data/") and (m := marks.search(text))
    ]
    assert not wrong, "\n".join(wrong)


def test_lock_pins_every_package_once_and_one_torch() -> None:
    names: dict[str, list[str]] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        match = re.fullmatch(r"([a-z0-9][a-z0-9._-]*)==([^\s;]+)(?: ; (.+))?", line)
        assert match, f"not a plain pin: {line!r}"
        names.setdefault(match[1], []).append(match[3] or "")
    twice = {n: markers for n, markers in names.items() if len(markers) > 1 and not all(markers)}
    assert not twice, f"pinned twice for the same machine: {twice}"
    assert [n for n in names if n == "torch" or n.startswith(("torch-", "pytorch"))] == ["torch"]


def test_lock_agrees_with_the_project() -> None:
    pins = set(re.findall(r'"([A-Za-z0-9._-]+==[^"]+)"', (ROOT / "pyproject.toml").read_text()))
    lock = {line.split(" ;")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert not {p.lower().split(" ;")[0] for p in pins} - lock


# Words that the code used to have for what the field has a word for (docs/decisions.md, "Words").
RETIRED = frozenset(
    """
    Surroundings Desk Stretch conduct spectator journal Journal collection later Later ahead Ahead syncs recompute
    rewind Rewind Rewinds company Company keep_company apart shared_sum SharedSum launcher together Pieces Box Cut
    Spread claim Claim passage Sign Far promise outline keeping Keeper pulse code exchange lookup ending last_words
    returning people evidence entry isolate pairing Pairing facts Fact mirror readers act measures Measures notices
    Notices codec told
    """.split()  # noqa: SIM905 - a list of words is read, not its quotes
)


def test_the_fields_words_are_used() -> None:
    wrong = []
    for path in in_rooms(*ROOMS):
        if path.stem in RETIRED:
            wrong.append(f"{shown(path)}: a module")
        for node in ast.walk(sources()[path]):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in RETIRED:
                is_command = any("command" in ast.unparse(d) for d in node.decorator_list)  # its name is what a user types
                wrong += [] if is_command else [f"{shown(path, node.lineno)}: {node.name}"]
    assert not wrong, "\n".join(wrong)


def test_few_functions_take_many_parameters() -> None:
    """Commands aside, whose parameters are their options."""
    many = []
    for path in in_rooms(*ROOMS):
        for node in ast.walk(sources()[path]):
            if isinstance(node, ast.FunctionDef) and not any("option" in ast.unparse(d) for d in node.decorator_list):
                names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                if len([n for n in names if n not in ("self", "cls")]) > 6:
                    many.append(f"{shown(path, node.lineno)}: {node.name}")
    assert len(many) <= 15, "\n".join(many)


def test_public_functions_say_what_they_raise() -> None:
    """Those of the rooms where state is at stake that raise something themselves."""
    wrong = []
    for path in in_rooms("lehr", "infra"):
        if not shown(path).startswith(("lehr/train", "lehr/post", "lehr/artifacts", "lehr/distributed", "infra/controller")):
            continue
        for node in ast.walk(sources()[path]):
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            raises = any(isinstance(inner, ast.Raise) and inner.exc is not None for inner in ast.walk(node))
            if raises and not re.search(r"[Rr]aise|\b[Ss]ee ", ast.get_docstring(node) or ""):
                wrong.append(f"{shown(path, node.lineno)}: {node.name}")
    assert not wrong, "\n".join(wrong)
