import sys

import pytest
from faults.soak import epochs, growth, jobs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize(("run", "number"), [(epochs, 60), (jobs, 12)])
def test_neither_memory_nor_files_nor_threads_grow(run, number):
    (memory, files, threads), (memory_after, files_after, threads_after) = growth(run, number, 0)
    assert memory_after < memory + 30e6
    assert files_after <= files
    assert threads_after <= threads
