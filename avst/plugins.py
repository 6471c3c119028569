"""Reward functions by reference: "rewards.temporal:temporal_iou", an installed module, or "./mine.py:my_reward".

avst knows rewards by these references alone, so that a new one touches no file of the library.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import math
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from avst.errors import AvstError
from avst.types import TASKS, Task

RewardFunction: TypeAlias = Callable[..., Any]
Weight: TypeAlias = float | Mapping[Task, float]

# The weights of the paper's authors. A weight of 0 is shown and adds nothing; a task that is not named is not asked
# at all.
DEFAULT_REWARDS: dict[str, dict[str, Any]] = {
    "format": {"use": "rewards.format:format_reward", "weight": 1.0},
    "object": {"use": "rewards.object:object_reward", "weight": {"spatial": 0.5, "st": 0.0}},
    "temporal": {"use": "rewards.temporal:temporal_iou", "weight": {"temporal": 1.0, "st": 0.5}},
    "spatial": {"use": "rewards.spatial:spatial_iou", "weight": {"spatial": 0.5, "st": 0.5}},
}


@dataclass(frozen=True)
class RewardSpec:
    """A reward as a recipe names it. Example: RewardSpec("object", object_reward, {"spatial": 0.5, "st": 0.0})."""

    name: str
    function: RewardFunction
    weight: Weight = 1.0

    def __post_init__(self) -> None:
        where = f"reward {self.name!r}: weight"
        if not callable(self.function):
            raise AvstError(f"reward {self.name!r}: function must be callable, got {self.function!r}")
        if isinstance(self.weight, Mapping):
            for task, weight in self.weight.items():
                if task not in TASKS:
                    raise AvstError(f"{where}: unknown task {task!r}{_nearest(str(task), TASKS)}")
                _finite(weight, f"{where} for {task}")
        else:
            _finite(self.weight, where)

    def weight_for(self, task: Task) -> float | None:
        """The weight of this reward for a task; None: it is not asked about such questions."""
        if isinstance(self.weight, Mapping):
            return self.weight.get(task)
        return float(self.weight)


def load_specs(rewards: Mapping[str, Any] | None = None, base_dir: str | Path = ".") -> list[RewardSpec]:
    """The specs of a recipe's `rewards` ({name: {use, weight}} or {name: reference}), DEFAULT_REWARDS for None."""
    specs = []
    for name, entry in (DEFAULT_REWARDS if rewards is None else rewards).items():
        fields: Any = {"use": entry} if isinstance(entry, str) else entry
        if not isinstance(fields, Mapping) or not isinstance(fields.get("use"), str):
            raise AvstError(f'reward {name!r}: must say use: "module:function" (and may say weight)')
        for key in fields:
            if key not in ("use", "weight"):
                raise AvstError(f"reward {name!r}: unknown key {key!r}{_nearest(str(key), ('function', 'weight'))}")
        specs.append(RewardSpec(name, load_reward(fields["use"], base_dir), fields.get("weight", 1.0)))
    return specs


def load_reward(ref: str, base_dir: str | Path = ".") -> RewardFunction:
    """The function that a reference names, files relative to base_dir. AvstError, with the nearest name, if there is
    none."""
    module_name, colon, function_name = ref.rpartition(":")
    if not colon or not module_name or not function_name:
        raise AvstError(f'reward {ref!r}: write "module:function" or "./file.py:function"')
    if module_name.endswith(".py"):
        module = _from_file(ref, Path(base_dir) / module_name)
    else:
        module = _from_module(ref, module_name)
    function = getattr(module, function_name, None)
    if function is None:
        public = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise AvstError(f"reward {ref!r}: {module_name} has no {function_name!r}{_nearest(function_name, public)}")
    if not callable(function):
        raise AvstError(f"reward {ref!r}: {function_name} is not a function but {type(function).__name__}")
    return function


def _from_module(ref: str, module_name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise AvstError(
                f"reward {ref!r}: {module_name} needs a module that is not installed: {error.name}"
            ) from error
        raise AvstError(
            f"reward {ref!r}: no module {error.name!r}{_nearest(module_name, _modules(module_name))}"
        ) from error
    except Exception as error:  # a plug-in's own code runs here, so anything can be raised
        raise AvstError(f"reward {ref!r}: {module_name} cannot be imported: {one_line(error)}") from error


def _from_file(ref: str, path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        others = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise AvstError(f"reward {ref!r}: no file {path}{_nearest(path.name, others)}")
    name = f"avst_reward_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise AvstError(f"reward {ref!r}: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code runs here, so anything can be raised
        del sys.modules[name]
        raise AvstError(f"reward {ref!r}: {path} cannot be imported: {one_line(error)}") from error
    return module


def _modules(module_name: str) -> list[str]:
    """The names that could have been meant: the siblings of a missing module."""
    package, _, _ = module_name.rpartition(".")
    try:
        found = importlib.import_module(package) if package else None
    except ImportError:
        return []
    paths = list(found.__path__) if found is not None and hasattr(found, "__path__") else None
    if package and paths is None:
        return []
    return [f"{package}.{m.name}".lstrip(".") for m in pkgutil.iter_modules(paths)]


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _finite(value: object, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AvstError(f"{where} must be a finite number, got {value!r}")


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
