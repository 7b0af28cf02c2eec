"""A bound on the memory that a reader may take for somebody else's bytes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def little_more(size: int) -> Iterator[None]:
    """MemoryError and the like for what takes more than `size` bytes more than there are now; on Linux alone, which
    says how many those are. The bound is of the whole process: nothing else runs meanwhile.
    """
    usage = Path("/proc/self/statm")
    if not usage.is_file():
        yield
        return
    import resource  # no Windows has it

    now = int(usage.read_text("utf-8").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = min([now + size, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
