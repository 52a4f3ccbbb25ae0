import pytest

from server.devices.profiles.profile import DataPlace, Part, ReadStep, RegisterPlace
from server.devices.profiles.steps import Blocks, Wanted, plan_steps, single_steps
from server.devices.protocols.requests import DataRead, RegisterRead


def values(*places: tuple[int, int, int]) -> list[Wanted]:
    """Function, address and registers of each value."""
    return [
        Wanted(f"v{at}", RegisterPlace(function, address), count * 2)
        for at, (function, address, count) in enumerate(places)
    ]


@pytest.mark.parametrize(
    ("places", "blocks", "requests"),
    [
        ([(3, 0, 2), (3, 2, 2)], Blocks(), [(3, 0, 4)]),
        ([(3, 2, 2), (3, 0, 2)], Blocks(), [(3, 0, 4)]),
        ([(3, 0, 2), (3, 3, 1)], Blocks(), [(3, 0, 2), (3, 3, 1)]),
        ([(3, 0, 2), (3, 3, 1)], Blocks(max_gap=1), [(3, 0, 4)]),
        ([(3, 0, 2), (3, 7, 1)], Blocks(max_gap=4), [(3, 0, 2), (3, 7, 1)]),
        ([(3, 0, 2), (4, 2, 2)], Blocks(max_gap=9), [(3, 0, 2), (4, 2, 2)]),
        ([(3, 0, 2), (3, 2, 2)], Blocks(max_registers=3), [(3, 0, 2), (3, 2, 2)]),
        ([(3, 9, 1), (3, 0, 1), (3, 1, 1)], Blocks(), [(3, 9, 1), (3, 0, 2)]),
        ([(1, 0, 1), (1, 1, 1)], Blocks(max_gap=9), [(1, 0, 2), (1, 1, 2)]),
    ],
)
def test_neighbours_share_a_request(
    places: list[tuple[int, int, int]], blocks: Blocks, requests: list[tuple[int, int, int]]
) -> None:
    steps = plan_steps(values(*places), blocks)
    assert [step.request for step in steps] == [RegisterRead(*request) for request in requests]


def test_a_part_knows_its_bytes() -> None:
    (step,) = plan_steps(values((3, 5, 2), (3, 10, 1)), Blocks(max_gap=3))
    assert step == ReadStep(RegisterRead(3, 5, 6), (Part("v0", 0, 4), Part("v1", 10, 2)))


def test_each_alone_for_a_meter_that_refuses_blocks() -> None:
    steps = single_steps(values((3, 0, 2), (3, 2, 2)))
    assert [step.request for step in steps] == [RegisterRead(3, 0, 2), RegisterRead(3, 2, 2)]


def test_values_of_one_data_identifier_share_its_answer() -> None:
    block = bytes.fromhex("0001FF00")
    wanted = [
        Wanted("total", DataPlace(block, 0, block=True), 4),
        Wanted("peak", DataPlace(block, 8, block=True), 4),
        Wanted("volts", DataPlace(bytes.fromhex("02010100")), 2),
    ]
    assert plan_steps(wanted, Blocks()) == (
        ReadStep(DataRead(block, 12, exact=False), (Part("total", 0, 4), Part("peak", 8, 4))),
        ReadStep(DataRead(bytes.fromhex("02010100"), 2), (Part("volts", 0, 2),)),
    )
