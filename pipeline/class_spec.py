"""A class that params name by its file: `{code: plugins/flow.py, class: Flow, width: 8}`."""

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

CLONE = Path(__file__).resolve().parents[1]


class ParamsError(Exception):
    """Something wrong in params.yaml or dvc.yaml, as one line."""


class ClassSpec(BaseModel):
    """A class and its constructor's arguments: `{code: plugins/flow.py, class: Flow, width: 8}`.

    `code` is a path, so that it can be a dependency: below the project folder, or else below the clone.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    code: str
    class_: str = Field(alias="class")
    _where: str = PrivateAttr("")

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "class": self.class_, **self.arguments}

    def without(self, argument: str) -> Self:
        """The same, with the default of one argument."""
        spec = self.model_copy()
        spec.__pydantic_extra__ = {key: value for key, value in self.arguments.items() if key != argument}
        return spec

    def file(self) -> Path:
        for folder in (Path.cwd(), CLONE):
            if (folder / self.code).is_file():
                return (folder / self.code).resolve()
        raise ParamsError(f"{self._where}.code: no file {self.code} in the project folder or the clone")

    def inner(self) -> dict[str, "ClassSpec"]:
        """{dotted key: spec} of classes among the arguments, however deep: `module: {code: ..., class: ...}`."""
        return dict(specs_among(self._where, self.arguments))

    def load(self) -> Any:
        """The class."""
        module = import_file(self.file())
        if not hasattr(module, self.class_):
            raise ParamsError(f"{self._where}.class: {self.code} has no class {self.class_!r}{near(self.class_, vars(module))}")
        return getattr(module, self.class_)

    def build(self, **more: Any) -> Any:
        """An instance, from the arguments in params and some that only the caller knows.

        An argument that is itself a class with arguments comes as a ClassSpec, for the instance to build.
        """
        cls = self.load()
        accepted = inspect.signature(cls).parameters
        for name in self.arguments:
            if name not in accepted:
                raise ParamsError(f"{self._where}.{name}: no argument of {self.class_}, which takes {', '.join(accepted)}")
        given = {name: as_specs(f"{self._where}.{name}", value) for name, value in self.arguments.items()}
        given |= {name: value for name, value in more.items() if name in accepted}
        for name, parameter in accepted.items():
            if name not in given and parameter.default is parameter.empty:
                raise ParamsError(f"{self._where}.{name}: missing; {self.class_} needs it")
        try:
            return cls(**given)
        except (TypeError, ValueError) as error:
            raise ParamsError(f"{self._where}: {error}") from error


def as_specs(where: str, value: Any) -> Any:
    """An argument with every {code, class} in it as a ClassSpec."""
    if not isinstance(value, dict):
        return value
    if {"code", "class"} <= value.keys():
        spec = ClassSpec.model_validate(value)
        spec._where = where
        return spec
    return {key: as_specs(f"{where}.{key}", item) for key, item in value.items()}


def specs_among(where: str, arguments: dict[str, Any]) -> Iterator[tuple[str, ClassSpec]]:
    for key, value in arguments.items():
        found = as_specs(f"{where}.{key}", value)
        if isinstance(found, ClassSpec):
            yield f"{where}.{key}", found
        nested = found.arguments if isinstance(found, ClassSpec) else found
        if isinstance(nested, dict):
            yield from specs_among(f"{where}.{key}", nested)


def import_file(file: Path) -> Any:
    """The module of a file: its real one inside this clone, so that a class is one class; else one of its own."""
    if file.is_relative_to(CLONE / "pipeline"):
        return importlib.import_module(".".join(file.relative_to(CLONE).with_suffix("").parts))
    name = "_".join(["plugin", *file.with_suffix("").parts[1:]])
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def near(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, [k for k in known if not k.startswith("_")], 1)
    return f"; did you mean {close[0]!r}?" if close else ""
