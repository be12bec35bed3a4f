"""Names of a package that are imported when they are first asked for, so that importing the package takes no time."""

import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> None:
    """Gives a package names that its modules have. A module of the same name is found by `import`, not as an attribute.
    Functions parse their arguments (`parse_arguments`).

    homes  name → the module below the package that it is imported from
    """

    @cache
    def find(name: str) -> Any:
        found = getattr(import_module(f"{package}.{homes[name]}"), name)
        if not isinstance(found, FunctionType):
            return found
        from bb.store.arguments import parse_arguments  # NumPy takes time to import

        parsed = parse_arguments(found)
        parsed.__module__ = package  # pickle looks for it there
        return parsed

    class Package(ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name not in homes:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            return find(name)

        def __setattr__(self, name: str, value: Any) -> None:
            if not (name in homes and isinstance(value, ModuleType)):  # as importing a module sets it
                super().__setattr__(name, value)

    sys.modules[package].__class__ = Package
