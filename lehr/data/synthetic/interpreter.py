"""Programs of word problems, run without Python's own machinery: assignments of arithmetic, with exact numbers.

OLMo 2 (section 4.4.1) keeps those of TinyGSM's answers whose "code is executable and only contains statements that are variable
assignments". This is what is understood here, and nothing else: a program cannot do harm, and needs no sandbox."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

LONGEST = 20_000  # characters of a program
_MOST = 10**15  # of a number, and of its denominator
_MOST_EXPONENT = 12
_DEEPEST = 40  # of an expression


class Unrunnable(Exception):
    """Why a program cannot be run, in few words."""


class Operation(NamedTuple):
    """One calculation: `left` `sign` `right` is `value`."""

    left: Fraction
    sign: str
    right: Fraction
    value: Fraction


class Step(NamedTuple):
    """One assignment: the variable, its expression as it is written, its value, the calculations on the way, and whether the
    value is written down rather than calculated."""

    name: str
    expression: str
    value: Fraction
    operations: list[Operation]
    given: bool


class Literal(NamedTuple):
    """A number of the source text, between two offsets."""

    start: int
    end: int
    value: Fraction


@dataclass(frozen=True)
class Program:
    """Assignments in order; `answer` names the variable of the result, or is an expression."""

    source: str
    assignments: list[tuple[str, ast.expr]]
    answer: ast.expr | None

    @classmethod
    def of(cls, source: str) -> Program:
        """A program of assignments, or one function of them that returns its result. Raises Unrunnable for anything else."""
        source = source.replace("\r\n", "\n")
        if len(source) > LONGEST:
            raise Unrunnable("a program that is too long")
        if "".join(source.splitlines()) != source.replace("\n", ""):
            raise Unrunnable("line ends that are not Python's")
        try:
            body: list[ast.stmt] = ast.parse(source).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise Unrunnable("no Python") from None
        answer: ast.expr | None = None
        if len(body) == 1 and isinstance(body[0], ast.FunctionDef):
            body = body[0].body
            if body and isinstance(body[-1], ast.Return) and body[-1].value is not None:
                answer, body = body[-1].value, body[:-1]
            else:
                raise Unrunnable("a function that returns nothing")
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):  # what it says of itself
            body = body[1:]
        assignments = [_assignment(statement) for statement in body]
        if not assignments:
            raise Unrunnable("no assignment")
        return cls(source, assignments, answer)

    def run(self) -> list[Step]:
        """Every assignment with its value; the last one is the result. Raises Unrunnable as `of`, and for numbers that are not
        there or too large."""
        running = _Running()
        for name, expression in self.assignments:
            running.assign(name, expression, ast.get_source_segment(self.source, expression) or "")
        if self.answer is not None:
            shown = ast.get_source_segment(self.source, self.answer) or ""
            if isinstance(self.answer, ast.Name) and self.answer.id == running.steps[-1].name:
                return running.steps
            running.assign("result", self.answer, shown)
        return running.steps

    def literals(self) -> list[Literal]:
        """The numbers that are written in it, in order."""
        lines = self.source.split("\n")
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line) + 1)
        found = []
        expressions = [expression for _, expression in self.assignments] + ([self.answer] if self.answer is not None else [])
        for node in (node for expression in expressions for node in ast.walk(expression)):
            if isinstance(node, ast.Constant):
                # ast counts bytes of UTF-8 in a line, Python's texts count characters.
                coded = lines[node.lineno - 1].encode()
                start = starts[node.lineno - 1] + len(coded[: node.col_offset].decode())
                end = starts[node.lineno - 1] + len(coded[: node.end_col_offset].decode())
                found.append(Literal(start, end, _constant(node)))
        return sorted(found)


def _assignment(statement: ast.stmt) -> tuple[str, ast.expr]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return name, value
    raise Unrunnable("a statement that is no assignment")


def _constant(node: ast.Constant) -> Fraction:
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        raise Unrunnable("a value that is no number")
    try:
        return _bounded(Fraction(repr(node.value)))
    except ValueError:  # inf
        raise Unrunnable("a number that is too large") from None


def _bounded(value: Fraction) -> Fraction:
    if abs(value.numerator) > _MOST or value.denominator > _MOST:
        raise Unrunnable("a number that is too large")
    return value


def _power(a: Fraction, b: Fraction) -> Fraction:
    if b.denominator != 1 or abs(b) > _MOST_EXPONENT:
        raise Unrunnable("a power that is no small whole number")
    return Fraction(a ** int(b))


_BINARY: dict[type[ast.operator], tuple[str, Callable[[Fraction, Fraction], Fraction]]] = {
    ast.Add: ("+", lambda a, b: a + b),
    ast.Sub: ("-", lambda a, b: a - b),
    ast.Mult: ("*", lambda a, b: a * b),
    ast.Div: ("/", lambda a, b: a / b),
    ast.FloorDiv: ("//", lambda a, b: Fraction(a // b)),
    ast.Mod: ("%", lambda a, b: a % b),
    ast.Pow: ("**", _power),
}
_FUNCTIONS: dict[str, Callable[..., Fraction]] = {
    "abs": abs,
    "int": lambda a: Fraction(int(a)),
    "max": max,
    "min": min,
    "round": lambda a: Fraction(round(a)),
}


@dataclass
class _Running:
    """Values by name, and the steps so far."""

    values: dict[str, Fraction] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)

    def assign(self, name: str, expression: ast.expr, shown: str) -> None:
        self.operations = []
        value = self.value(expression, 0)
        self.values[name] = value
        given = isinstance(expression, ast.Constant)
        self.steps.append(Step(name, shown, value, self.operations, given))

    def value(self, node: ast.expr, depth: int) -> Fraction:
        if depth > _DEEPEST:
            raise Unrunnable("an expression that is too deep")
        match node:
            case ast.Constant():
                return _constant(node)
            case ast.Name(id=name) if name in self.values:
                return self.values[name]
            case ast.Name():
                raise Unrunnable("a name without a value")
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                value = self.value(operand, depth + 1)
                return -value if isinstance(node.op, ast.USub) else value
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return self._calculated(self.value(left, depth + 1), op, self.value(right, depth + 1))
            case ast.Call(func=ast.Name(id=name), args=[_, *_] as args, keywords=[]) if name in _FUNCTIONS:
                return self._called(name, [self.value(arg, depth + 1) for arg in args])
        raise Unrunnable("an expression that is no arithmetic")

    def _calculated(self, left: Fraction, op: ast.operator, right: Fraction) -> Fraction:
        sign, calculate = _BINARY[type(op)]
        try:
            value = _bounded(calculate(left, right))
        except ZeroDivisionError:
            raise Unrunnable("a division by zero") from None
        self.operations.append(Operation(left, sign, right, value))
        return value

    def _called(self, name: str, values: list[Fraction]) -> Fraction:
        try:
            return _bounded(Fraction(_FUNCTIONS[name](*values)))
        except TypeError:
            raise Unrunnable(f"{name} with so many values") from None


def written(value: Fraction, most_decimals: int = 6) -> str | None:
    """A number as people write it: digits, with decimals where it has a few; None for one that never ends or has more."""
    if value.denominator == 1:
        return str(value.numerator)
    for decimals in range(1, most_decimals + 1):
        if (value * 10**decimals).denominator == 1:
            digits = f"{abs(int(value * 10**decimals)):0{decimals + 1}d}"
            return f"{'-' if value < 0 else ''}{digits[:-decimals]}.{digits[-decimals:]}"
    return None


def operations_of(steps: list[Step]) -> Iterator[Operation]:
    """All calculations of a run, in order."""
    return (operation for step in steps for operation in step.operations)
