"""Memory that was freed, given back to the system.

Loading a version frees much more than it keeps, in pieces between those of versions that stay. The C library keeps them: without
this a process that had loaded the shipped ensemble forty times took 131 MiB, and with it 95.
"""

import ctypes


def trim_malloc() -> None:
    """Give back what was freed; does nothing where the C library is not glibc. Takes milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
