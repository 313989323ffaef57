"""A class that params name by its file: `{code: plugins/flow.py, class: Flow, width: 8}`."""

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, TypeAdapter, ValidationError

CLONE = Path(__file__).resolve().parents[2]

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


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
        """Where the class's code is: the project's, else the clone's. Raises ParamsError."""
        for folder in (Path.cwd(), CLONE):
            if (folder / self.code).is_file():
                return (folder / self.code).resolve()
        paths = [file.relative_to(CLONE).as_posix() for file in (CLONE / "pipeline").rglob("*.py")]
        hint = near(self.code, [path for path in paths if Path(path).name == Path(self.code).name])
        raise ParamsError(f"{self._where}.code: no file {self.code} in the project folder or the clone{hint}")

    def nested(self) -> list["ClassSpec"]:
        """Itself, and the classes among its arguments, however deep: `module: {code: ..., class: ...}`."""
        return [self, *specs_among(self._where, self.arguments)]

    def load(self) -> Any:
        """The class."""
        module = import_file(self.file())
        if not hasattr(module, self.class_):
            raise ParamsError(f"{self._where}.class: {self.code} has no class {self.class_!r}{near(self.class_, vars(module))}")
        cls = getattr(module, self.class_)
        if inspect.isabstract(cls):
            lacking_methods = ", ".join(sorted(cls.__abstractmethods__))
            raise ParamsError(
                f"{self._where}.class: {self.class_} of {self.code} lacks {lacking_methods}, which its base class requires"
            )
        return cls

    def given(self, cls: Any) -> dict[str, Any]:
        """The arguments in params, of the types that the class's constructor names. Raises ParamsError.

        An argument that is itself a class with arguments comes as a ClassSpec, for the instance to build.
        """
        parameters, hints = inspect.signature(cls).parameters, {}
        with contextlib.suppress(NameError):  # a name that only a type checker imports
            hints = get_type_hints(cls.__init__, include_extras=True)
        for name in self.arguments:
            if name not in parameters:
                signature = f"{self.class_}, which takes {', '.join(parameters)}"
                raise ParamsError(f"{self._where}.{name}: no argument of {signature}{near(name, parameters)}")
        arguments = {name: as_specs(f"{self._where}.{name}", value) for name, value in self.arguments.items()}
        return {name: of_type(f"{self._where}.{name}", value, hints.get(name, Any)) for name, value in arguments.items()}

    def build(self, **more: Any) -> Any:
        """An instance, from the arguments in params and some that only the caller knows. Raises ParamsError."""
        cls = self.load()
        parameters, arguments = inspect.signature(cls).parameters, self.given(cls)
        arguments |= {name: value for name, value in more.items() if name in parameters}
        for name, parameter in parameters.items():
            if name not in arguments and parameter.default is parameter.empty:
                raise ParamsError(f"{self._where}.{name}: missing; {self.class_} needs it")
        try:
            return cls(**arguments)
        except (TypeError, ValueError) as error:
            raise ParamsError(f"{self._where}: {error}") from error


def of_type(where: str, value: Any, annotation: Any) -> Any:
    """A value that is of a type, or means one ("0.1", for a float). Raises ParamsError."""
    if isinstance(value, ClassSpec):
        return value
    config = None if annotation is ClassSpec else ConfigDict(arbitrary_types_allowed=True)
    try:
        converted = TypeAdapter(annotation, config=config).validate_python(value)
    except ValidationError as error:
        problem = error.errors()[0]
        subkey = "".join(f".{part}" for part in problem["loc"] if part != "[key]")
        raise ParamsError(f"{where}{subkey}: {problem['msg'].lower()}, got {problem['input']!r}") from None
    return converted if isinstance(value, str | int | float) else value


def as_specs(where: str, value: Any) -> Any:
    """An argument with every {code, class} in it as a ClassSpec."""
    if not isinstance(value, dict):
        return value
    if {"code", "class"} <= value.keys():
        spec = ClassSpec.model_validate(value)
        spec._where = where
        return spec
    return {key: as_specs(f"{where}.{key}", item) for key, item in value.items()}


def specs_among(where: str, arguments: dict[str, Any]) -> Iterator[ClassSpec]:
    for key, value in arguments.items():
        argument = as_specs(f"{where}.{key}", value)
        if isinstance(argument, ClassSpec):
            yield from argument.nested()
        elif isinstance(argument, dict):
            yield from specs_among(f"{where}.{key}", argument)


def import_file(file: Path) -> Any:
    """The module of a file: the real one inside this clone, so that a class exists only once; else one of its own."""
    if file.is_relative_to(CLONE / "pipeline"):
        return importlib.import_module(".".join(file.relative_to(CLONE).with_suffix("").parts))
    name = "_".join(["plugin", *file.with_suffix("").parts[1:]])
    if name not in sys.modules:
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))  # a plug-in may import from its project, as it may in a stage
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[name])
        except ImportError as error:
            del sys.modules[name]
            raise ParamsError(f"{file}: cannot be imported here: {error}") from error
    return sys.modules[name]


def near(name: str, names: Any) -> str:
    matches = difflib.get_close_matches(name, [other for other in names if not other.startswith("_")], 1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
