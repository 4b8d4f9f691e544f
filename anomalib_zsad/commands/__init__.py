# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The commands of ``anomalib-zsad``, one module each.

A module has ``HELP``, one line, and ``add_arguments(parser)``, which sets the default ``run``: a function of the parsed
options that returns the exit status, ``None`` for 0. Importing a module must stay cheap; ``run`` imports what it needs.
"""
