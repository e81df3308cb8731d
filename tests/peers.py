"""Lets the real packages be imported where only a part of them is installed.

timm and vit-pytorch ask for torchvision when they are imported; their Vision
Transformers never use it. `without_torchvision` gives them an empty one.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types


class _Anything(type):
    """Metaclass of classes that have every attribute, each again such a class."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = _Anything(name, (), {})
        setattr(cls, name, value)  # the same on every look-up, as enum members are
        return value


class _Module(types.ModuleType):
    """A module in which every name is a class."""

    __path__ = []  # makes it a package: any submodule can be imported

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = _Anything(name, (), {})
        setattr(self, name, value)
        return value


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        pass


def without_torchvision():
    """Call before importing timm or vit_pytorch; does nothing if it is installed."""
    if importlib.util.find_spec("torchvision") is not None:
        return
    if importlib.util.find_spec("transformers") is not None:
        # It remembers the answer, so it never takes the empty one for the real one.
        from transformers.utils import import_utils

        import_utils.is_torchvision_available()
    sys.meta_path.append(_Finder())
