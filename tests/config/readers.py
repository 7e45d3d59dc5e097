"""Which members of the configuration's classes the code reads. Types are inferred from annotations; nothing is run.

An attribute counts as read where the class of the object is known: `step.samples` is a reading of `Tuning.samples` only where
`step` is annotated, assigned, looped over or tested (`isinstance`) to be a `Tuning` or a class below or above it. So a common
name, such as `name`, proves nothing by itself. Flow is not followed: a variable has every type that its function ever gives it.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass, field

from tests.config.classes import ANY, NONE, Code, Types

Place = tuple[str, str]  # dotted name of a class, and of a field or method of it
CHECKS = ("field_validator", "model_validator", "model_serializer")  # they look at keys, and execute none


@dataclass
class Readings:
    """`outside`: members that code reads; `within`: members that a method of a configuration class reads, by that method;
    `copied`: classes whose fields another class takes over, as in `B(**a.model_dump())`."""

    outside: set[Place] = field(default_factory=set)
    within: dict[Place, set[Place]] = field(default_factory=lambda: defaultdict(set))
    copied: set[tuple[str, str]] = field(default_factory=set)

    def closed(self, code: Code) -> set[Place]:
        """Members read, by way of methods, copies and protocols too."""
        found, waiting = set(self.outside), list(self.outside)
        while waiting:
            key, member = waiting.pop()
            further = set(self.within[key, member])
            further |= {(code.owner(a, member), member) for a, b in self.copied if code.owner(b, member) == key}
            further |= {(code.owner(fit, member), member) for fit in code.fitting(key)}
            further = {place for place in further - found if place[0]}
            found |= further
            waiting += further
        return found


def readings(code: Code, configuration: str) -> Readings:
    """What the code reads; in the package `configuration` methods alone count, where something else calls them."""
    readers = [Reader(code, name, configuration=name.startswith(configuration)) for name in code.modules]
    out = Readings()
    for _ in range(2):  # a variable, or an attribute of a class, may get its type after it was read
        for reader in readers:
            reader.out = out
            reader.visit(code.modules[reader.module])
    return out


class Reader(ast.NodeVisitor):
    """Goes through one module."""

    def __init__(self, code: Code, module: str, *, configuration: bool) -> None:
        self.code, self.module, self.configuration = code, module, configuration
        self.out = Readings()
        self.variables: dict[ast.AST | None, dict[str, Types]] = defaultdict(lambda: defaultdict(frozenset))
        self.scopes: list[ast.AST | None] = [None]
        self.classes: list[str] = []
        self.method = ""

    def types(self, node: ast.AST) -> Types:
        """Classes of which an expression may be, or may hold."""
        if isinstance(node, ast.Name):
            own = [self.variables[scope][node.id] for scope in reversed(self.scopes) if node.id in self.variables[scope]]
            return own[0] if own else self._returned(node)
        if isinstance(node, ast.Attribute):
            return NONE.union(*(self.code.member(key, node.attr) for key in self.types(node.value)), self._returned(node))
        if isinstance(node, ast.Call):
            built = self.code.annotated(self.module, node.func) | self.types(node.func)
            if built or isinstance(node.func, ast.Attribute):
                return built
            return NONE.union(*map(self.types, node.args))  # sorted(x), next(iter(x)), replace(x, ...), zip(x, y)
        if isinstance(node, ast.Lambda):
            return self.types(node.body)
        if isinstance(node, ast.Compare | ast.Constant | ast.JoinedStr):
            return NONE
        return NONE.union(*map(self.types, ast.iter_child_nodes(node)))

    def _returned(self, node: ast.Name | ast.Attribute) -> Types:
        """Of a function of some module: what it returns."""
        dotted = self.code.resolve(self.module, ast.unparse(node))
        function = self.code.functions.get(dotted)
        return self.code.annotated(dotted.rpartition(".")[0], function.returns) if function else NONE

    def _read(self, value: ast.expr, member: str) -> None:
        for key in self.types(value):
            owner = ANY if key == ANY else self.code.owner(key, member)
            if not owner:
                continue
            if self.configuration and self.classes:
                self.out.within[self.code.owner(self.classes[-1], self.method), self.method].add((owner, member))
            elif not self.configuration:
                self.out.outside.add((owner, member))

    def _assign(self, target: ast.AST, types: Types) -> None:
        if isinstance(target, ast.Name):
            self.variables[self.scopes[-1]][target.id] |= types
        elif isinstance(target, ast.Attribute):
            for key in self.types(target.value) & self.code.classes.keys():
                self.code.classes[key].assigned[target.attr] |= types
        elif isinstance(target, ast.Tuple | ast.List | ast.Starred):
            for part in ast.iter_child_nodes(target):
                self._assign(part, types)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.classes.append(f"{self.module}.{node.name}")
        self.generic_visit(node)
        self.classes.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        checks = any(name in ast.unparse(decorator) for decorator in node.decorator_list for name in CHECKS)
        if checks or (self.configuration and not self.classes):
            return
        before, self.method = self.method, self.method or (node.name if self.classes else "")
        self._function(node)
        self.method = before

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node)

    def _function(self, node: ast.FunctionDef | ast.Lambda) -> None:
        self.scopes.append(node)
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        for argument in arguments:
            self._assign(ast.Name(argument.arg), self.code.annotated(self.module, argument.annotation))
        if self.classes and arguments and arguments[0].arg in ("self", "cls"):
            self._assign(ast.Name(arguments[0].arg), frozenset([self.classes[-1]]))
        self.generic_visit(node)
        self.scopes.pop()

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._assign(target, self.types(node.value))
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if self.method or not self.classes:
            self._assign(node.target, self.code.annotated(self.module, node.annotation))
        self.generic_visit(node)

    def visit_For(self, node: ast.For | ast.comprehension) -> None:
        self._assign(node.target, self.types(node.iter))
        self.generic_visit(node)

    visit_comprehension = visit_For

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._assign(node.target, self.types(node.value))
        self.generic_visit(node)

    def visit_withitem(self, node: ast.withitem) -> None:
        if node.optional_vars is not None:
            self._assign(node.optional_vars, self.types(node.context_expr))
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load):
            self._read(node.value, node.attr)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func)
        if called == "isinstance":
            self._assign(node.args[0], self.code.annotated(self.module, node.args[1]))
        if called == "getattr" and isinstance(node.args[1], ast.Constant):
            self._read(node.args[0], str(node.args[1].value))
        unpacked = [part for keyword in node.keywords if keyword.arg is None for part in ast.walk(keyword.value)]
        for part in unpacked:
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr == "model_dump":
                made = self.code.annotated(self.module, node.func)
                self.out.copied |= {(source, copy) for source in self.types(part.func.value) for copy in made}
        self.generic_visit(node)
