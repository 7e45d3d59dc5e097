"""The classes of the code as written: what their fields hold, what their methods return, who inherits from whom."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

Types = frozenset[str]  # dotted names of classes
NONE: Types = frozenset()
ANY = "typing.Any"
CONTAINER = ("items", "values", "get", "pop", "copy", "setdefault", "model_copy")  # what they give is of the object's own kind


@dataclass
class Class:
    """One class: its fields by annotation, its methods, and what methods assign to attributes that it does not annotate."""

    module: str
    bases: list[str]
    fields: dict[str, ast.expr]
    methods: dict[str, ast.FunctionDef]
    assigned: dict[str, Types] = field(default_factory=lambda: defaultdict(frozenset))


class Code:
    """Modules by dotted name, with everything that can be looked up in them."""

    def __init__(self, modules: Mapping[str, ast.Module]) -> None:
        self.modules = modules
        self.names = {name: dict(_names(name, tree)) for name, tree in modules.items()}
        self.classes: dict[str, Class] = {}
        self.functions: dict[str, ast.FunctionDef] = {}
        self.aliases: dict[str, ast.expr] = {}
        self._members: dict[tuple[str, str], Types | None] = {}
        for name, tree in modules.items():
            for node in tree.body:
                if isinstance(node, ast.ClassDef):
                    self.classes[f"{name}.{node.name}"] = self._class(name, node)
                elif isinstance(node, ast.FunctionDef):
                    self.functions[f"{name}.{node.name}"] = node
                elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp | ast.Name):
                    self.aliases |= {f"{name}.{t.id}": node.value for t in node.targets if isinstance(t, ast.Name)}

    def _class(self, module: str, node: ast.ClassDef) -> Class:
        annotated = [n for n in node.body if isinstance(n, ast.AnnAssign) and "ClassVar" not in ast.unparse(n.annotation)]
        fields = {ast.unparse(n.target): n.annotation for n in annotated}
        methods = {n.name: n for n in node.body if isinstance(n, ast.FunctionDef)}
        return Class(module, [self.resolve(module, ast.unparse(base)) for base in node.bases], fields, methods)

    def resolve(self, module: str, name: str) -> str:
        """The dotted name that `name` stands for in a module, through re-exports; empty for a builtin or a local one."""
        head, _, rest = name.partition(".")
        found = self.names.get(module, {}).get(head, "")
        found = f"{found}.{rest}" if rest and found else found
        seen = {""}
        while found not in seen:
            seen.add(found)
            package, _, last = found.rpartition(".")
            found = self.names.get(package, {}).get(last, found)
        return found

    def mro(self, key: str) -> list[str]:
        """A class and those above it, nearest first."""
        own = self.classes.get(key)
        return [] if own is None else [key, *(above for base in own.bases for above in self.mro(base))]

    def owner(self, key: str, attribute: str) -> str:
        """The uppermost class of those above `key` that declares an attribute; empty if none does."""
        having = [c for c in self.mro(key) if attribute in self.classes[c].fields or attribute in self.classes[c].methods]
        return having[-1] if having else ""

    def fitting(self, key: str) -> list[str]:
        """Classes that have every member of `key`, if that is a Protocol."""
        own = self.classes.get(key)
        if own is None or "typing.Protocol" not in own.bases:
            return []
        members = [*own.fields, *own.methods]
        return [c for c in self.classes if c != key and all(self.owner(c, member) for member in members)]

    def annotated(self, module: str, node: ast.AST | None) -> Types:
        """Classes that an annotation leads to, such as A and B for `dict[str, A | None] | B`; of a callable what it returns."""
        if node is None:
            return NONE
        if isinstance(node, ast.Name | ast.Attribute):
            found = self.resolve(module, ast.unparse(node))
            if found in self.classes or found == ANY:
                return frozenset([found])
            return self.annotated(found.rpartition(".")[0], self.aliases[found]) if found in self.aliases else NONE
        parts = ast.iter_child_nodes(node)
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Callable":
            parts = iter(node.slice.elts[1:] if isinstance(node.slice, ast.Tuple) else [])
        return NONE.union(*(self.annotated(module, part) for part in parts))

    def member(self, key: str, attribute: str) -> Types:
        """What a field holds, a property is, or a method returns."""
        if key == ANY:
            return frozenset([ANY])
        for above in self.mro(key):
            if (above, attribute) not in self._members:
                self._members[above, attribute] = self._member(above, attribute)
            found = self._members[above, attribute]
            if found is not None:
                return found
            if attribute in self.classes[above].assigned:
                return self.classes[above].assigned[attribute]
        return frozenset([key]) if attribute in CONTAINER else NONE

    def _member(self, key: str, attribute: str) -> Types | None:
        own = self.classes[key]
        if attribute in own.fields:
            return self.annotated(own.module, own.fields[attribute])
        return self.annotated(own.module, own.methods[attribute].returns) if attribute in own.methods else None


def _names(module: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What each name of a module stands for: imports, those inside functions too, and its own definitions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.asname, alias.name) for alias in node.names if alias.asname)
            yield from ((head, head) for alias in node.names if not alias.asname for head in [alias.name.split(".")[0]])
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, f"{module}.{node.name}"
        elif isinstance(node, ast.Assign):
            yield from ((target.id, f"{module}.{target.id}") for target in node.targets if isinstance(target, ast.Name))
