"""A process of `local_processes`: one run of a grid."""

from . import _child

_child()
