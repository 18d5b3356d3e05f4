"""A YAML file as plain values, with the line of each, so that every mistake can be reported where it stands.

Numbers stay as they are written (`Number`): an amount of ``0.1`` must not pass through a float, and ``12:30`` must
not become the 750 that YAML 1.1 makes of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import yaml

from gateway.errors import ConfigError

Path = tuple[str | int, ...]

MAX_CHARACTERS = 4 * 1024 * 1024
MAX_NODES = 200_000
MAX_DEPTH = 32
_TAG: Final = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset({f"{_TAG}str", f"{_TAG}timestamp", f"{_TAG}value"})
_NUMBER_TAGS = frozenset({f"{_TAG}int", f"{_TAG}float"})
_YES = frozenset({"yes", "true", "on"})


class Number(str):
    """A number, in the very characters of the file."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake; ``line`` counts from 1."""

    line: int
    path: Path
    message: str


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says.

    Attributes:
        data: Mappings, lists, `str`, `Number`, `bool` and None.
        lines: Line of each mapping entry and list item by its path, of the document itself by ``()``.
        problems: Mistakes found while reading: keys that stand twice, tags.
    """

    name: str
    data: object
    lines: Mapping[Path, int]
    problems: tuple[Problem, ...]

    def problem(self, path: Path, message: str) -> Problem:
        """Make a mistake at a path, or at the nearest thing around it that stands in the file."""
        known = next(path[:size] for size in range(len(path), -1, -1) if path[:size] in self.lines)
        return Problem(self.lines[known], path, message)

    def render(self, problems: Iterable[Problem]) -> list[str]:
        """Write mistakes as ``name:line: path: message``, in the order of the file."""
        ordered = sorted(set(problems), key=lambda p: (p.line, str(p.path), p.message))
        return [f"{self.name}:{p.line}: {f'{dotted(p.path)}: ' if p.path else ''}{p.message}" for p in ordered]


def dotted(path: Path) -> str:
    """Write a path as ``tenants[0].budgets.day``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def read_document(text: str, name: str) -> Document:
    """Read YAML.

    Raises:
        ConfigError: Not YAML, more than one document, too large or nested too deep.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{name}: larger than {MAX_CHARACTERS} characters")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise ConfigError(f"{name}:{line}: not YAML: {exc.problem}") from None
    except (yaml.YAMLError, RecursionError) as exc:
        raise ConfigError(f"{name}: not YAML: {str(exc).splitlines()[0]}") from None
    if root is None:
        raise ConfigError(f"{name}:1: the file is empty")
    reader = _Reader(name)
    data = reader.value(root, ())
    return Document(name, data, reader.lines, tuple(reader.problems))


def as_json(value: object) -> object:
    """Return a value of a document with its numbers as JSON has them."""
    if isinstance(value, Number):
        try:
            return int(value)
        except ValueError:
            return float(value)
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list) else value


@dataclass(slots=True)
class _Reader:
    """One walk over the nodes of a file; aliases are followed, within the bounds."""

    name: str
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0

    def value(self, node: yaml.Node, path: Path) -> object:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self.nodes += 1
        if self.nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise ConfigError(f"{self.name}:{line}: too large or nested too deep")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path, line)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        found: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == f"{_TAG}merge":
                self.problems.append(Problem(line, path, "a key must be plain text; there are no merge keys here"))
                continue
            key = (*path, key_node.value)
            if key_node.value in found:
                self.problems.append(Problem(line, key, f"stands twice, first in line {self.lines[key]}"))
                continue
            self.lines[key] = line
            found[key_node.value] = self.value(value_node, key)
        return found

    def _scalar(self, node: yaml.Node, path: Path, line: int) -> object:
        text = str(node.value)
        if node.tag in _NUMBER_TAGS:
            return Number(text)
        if node.tag == f"{_TAG}bool":
            return text.lower() in _YES
        if node.tag == f"{_TAG}null":
            return None
        if node.tag not in _TEXT_TAGS:
            self.problems.append(Problem(line, path, f"the tag {node.tag} means nothing here"))
        return text
