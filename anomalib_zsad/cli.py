# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-zsad``: the few things that anomalib's own command line has no verb for."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from anomalib_zsad.requirements import MissingPackageError, explained

COMMANDS = ("backbone", "benchmark", "benchmark deploy", "benchmark speed", "detect", "doctor", "schema", "weights")
"""Each is a module of :mod:`anomalib_zsad.commands`; ``"benchmark deploy"`` would be ``benchmark_deploy``."""

INTERRUPTED, PIPE_CLOSED = 130, 141
"""Exit status after Ctrl-C, and where nobody reads the output any more, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status, 1 with a message on standard error if it failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="anomalib-zsad", description=__doc__)
    nouns = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = import_module(f"anomalib_zsad.commands.{name.replace(' ', '_')}")
        command.add_arguments(nouns.add_parser(name, help=command.HELP, description=command.__doc__))
    words = list(sys.argv[1:] if arguments is None else arguments)
    if (pair := " ".join(words[:2])) in COMMANDS:
        words[:2] = [pair]
    options = parser.parse_args(words)
    if hasattr(sys.stdout, "reconfigure"):  # an encoding without a letter of some file's name stops nothing
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with explained():
            return options.run(options) or 0
    except BrokenPipeError:  # whoever reads the output, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except (OSError, ValueError, MissingPackageError) as error:
        print(f"anomalib-zsad: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit) as error:
        interruption = error if isinstance(error, KeyboardInterrupt) else error.__context__
        if not isinstance(interruption, KeyboardInterrupt):  # of which Lightning makes an exit
            raise
        print(f"\nInterrupted. {interruption}".rstrip(), file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
