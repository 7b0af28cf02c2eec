import pytest
from faults.full_disk import fill_up, roomy


def test_a_disk_that_fills_up_ends_in_one_message_and_the_run_goes_on_once_there_is_room() -> None:
    try:
        needed, expected = roomy()
    except PermissionError as error:
        pytest.skip(str(error))
    assert fill_up(needed - 60, expected) >= 1
    assert fill_up(12, expected) == 0
