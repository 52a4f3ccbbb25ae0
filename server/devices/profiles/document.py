"""A profile's YAML as plain data whose every key remembers its line; the schema checks its form."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from server.devices.errors import ProfileFault

SIZE_LIMIT = 64 * 1024
DEPTH_LIMIT = 8
FAULT_LIMIT = 50

Path_ = tuple[str | int, ...]


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases: a few of them can make a document of gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(problem="an alias (*) is not allowed")
        return super().compose_node(parent, index)


class Document:
    """One file: its data, the line of each place, and the faults found so far."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.data: Mapping[str, Any] = {}
        self.faults: list[ProfileFault] = []
        self._lines: dict[Path_, int] = {}

    def fault(self, message: str, *place: str | int) -> None:
        """Note that something is wrong at this place."""
        line = next(
            (self._lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in self._lines),
            1,
        )
        where = ".".join(str(key) for key in place)
        if len(self.faults) < FAULT_LIMIT:
            self.faults.append(ProfileFault(self.file, line, where, message))

    def read(self, text: str) -> bool:
        """Parse and check the form; False when there are faults."""
        loader = _PlainLoader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                self._note_lines(node, ())
            if not isinstance(node, yaml.MappingNode):
                self.fault("a profile is a mapping of keys")
            elif not self.faults:
                self.data = loader.construct_document(node)
                self._check_schema()
        except yaml.MarkedYAMLError as error:
            self._lines[()] = error.problem_mark.line + 1 if error.problem_mark else 1
            self.fault(f"not YAML: {error.problem}")
        except RecursionError:
            self.fault("nested too deeply")
        except (yaml.YAMLError, ValueError) as error:
            self.fault(f"not YAML: {error}")
        finally:
            loader.dispose()
        return not self.faults

    def _note_lines(self, node: yaml.Node, place: Path_) -> None:
        self._lines.setdefault(place, node.start_mark.line + 1)
        if len(place) > DEPTH_LIMIT:
            self.fault("nested too deeply", *place)
        elif isinstance(node, yaml.SequenceNode):
            for at, child in enumerate(node.value):
                self._note_lines(child, (*place, at))
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                child_place = (*place, str(key.value))
                known = child_place in self._lines
                self._lines[child_place] = key.start_mark.line + 1
                if known:
                    self.fault("given twice", *child_place)
                self._note_lines(value, child_place)

    def _check_schema(self) -> None:
        for error in sorted(_validator().iter_errors(self.data), key=lambda e: str(e.json_path)):
            self.fault(_explain(error), *error.absolute_path)


@cache
def _validator() -> Draft202012Validator:
    schema = json.loads(Path(__file__).with_name("schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _explain(error: ValidationError) -> str:
    if error.validator == "pattern" and str(error.validator_value).startswith("^[0-9A-Fa-f]"):
        return f"{error.instance!r} is not 8 hex digits"
    if error.absolute_path and error.absolute_path[-1] == "di" and error.validator == "type":
        return "a data identifier is 8 hex digits in quotes: YAML reads 00010000 as a number"
    if error.validator in {"oneOf", "anyOf"}:
        if not isinstance(error.instance, Mapping):
            return f'{error.instance!r} is not a number in range, such as "0.01"'
        options: Any = error.validator_value
        names = [str(option["required"][0]) for option in options]
        return f"needs {' or '.join(names)}" + (", not both" if error.validator == "oneOf" else "")
    if error.validator == "not":
        return "has no place here"
    return error.message
