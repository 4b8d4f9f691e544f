# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Tells anomalib of our models once it is imported; armed at interpreter start by ``anomalib_zsad.pth`` or ``.start``.

Every interpreter of the environment runs this module, also those that never import anomalib. It therefore stands
outside the package, whose import it must not cause, and itself imports nothing that start-up has not loaded already.

The classes are registered when the *outermost* import of an anomalib module, or of one of ours, is over. Earlier
would be too early: ``anomalib.models`` imports ``anomalib.data``, ``anomalib.engine`` imports both, and a module of
ours may be the one that imports anomalib first; what is half imported can be neither extended nor imported from.
"""

import os
import sys
from _thread import get_ident

TYPE_CHECKING = False  # the typing module would have to be loaded
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

HOSTS = ("anomalib.data", "anomalib.models")
OPT_OUT = "ANOMALIB_ZSAD_AUTOLOAD"

_busy: set[int] = set()  # the threads in the middle of a watched import, or of the registration


def start() -> None:
    """Run at interpreter start: arm the hook, unless the environment says ``ANOMALIB_ZSAD_AUTOLOAD=0``."""
    if os.environ.get(OPT_OUT) != "0":
        arm()


def arm() -> None:
    """Register with what is imported of anomalib, and with the rest as soon as it is; calling again is harmless."""
    if _watcher not in sys.meta_path:
        sys.meta_path.insert(0, _watcher)
    _register()


def _register() -> None:
    if _busy or not any(host in sys.modules for host in HOSTS):
        return
    thread = get_ident()
    _busy.add(thread)
    try:
        from anomalib_zsad.plugin import register

        register()
        finished = all(host in sys.modules for host in HOSTS)
    except Exception as error:  # noqa: BLE001 - no fault of ours may break anomalib
        import logging

        finished = True
        message = "anomalib_zsad is not available, %s: %s (%s=0 stops the attempt)"
        logging.getLogger("anomalib_zsad").warning(message, type(error).__name__, error, OPT_OUT)
    finally:
        _busy.discard(thread)
    if finished and _watcher in sys.meta_path:
        sys.meta_path.remove(_watcher)


class _Watcher:
    """Meta path finder that leaves the finding to the others and wraps the loader of an outermost import."""

    def find_spec(
        self,
        name: str,
        path: "Sequence[str] | None" = None,
        target: "ModuleType | None" = None,
    ) -> "ModuleSpec | None":
        thread = get_ident()
        if not name.startswith(("anomalib.", "anomalib_zsad.")) or thread in _busy:
            return None
        _busy.add(thread)  # so that our own turn below, or that of another finder that delegates like us, answers None
        try:
            for finder in sys.meta_path:
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    if spec.loader is not None:
                        spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
                    return spec
            return None
        finally:
            _busy.discard(thread)


class _Loader:
    """The wrapped loader, except that the end of the module's execution is noticed."""

    def __init__(self, loader: object) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def exec_module(self, module: "ModuleType") -> None:
        module.__loader__ = module.__spec__.loader = self._loader  # type: ignore[union-attr, assignment]
        thread = get_ident()
        _busy.add(thread)
        try:
            self._loader.exec_module(module)  # type: ignore[attr-defined]
        finally:
            _busy.discard(thread)
        _register()


_watcher = _Watcher()
