"""What --gpus and --cards say, and prices."""

from __future__ import annotations

from pathlib import Path

import pytest

from avst.errors import AvstError
from avst.plan.build import Prices, read_prices
from avst.plan.cards import CARDS, find_card, parse_machines, read_cards


@pytest.mark.parametrize(
    ("text", "name", "hosts", "per_host"),
    [
        ("A6000", "A6000", 1, 1),
        ("4xA6000", "A6000", 1, 4),
        ("2x8xH100", "H100", 2, 8),
        ("8x3090", "RTX3090", 1, 8),
        ("4xNVIDIA RTX A6000", "A6000", 1, 4),
        ("2xa100-40", "A100-40", 1, 2),
        ("a100", "A100-80", 1, 1),
    ],
)
def test_cards_by_their_names(text: str, name: str, hosts: int, per_host: int) -> None:
    machines = parse_machines(text, CARDS)
    assert (machines.name, machines.hosts, machines.per_host, machines.cards) == (
        name,
        hosts,
        per_host,
        hosts * per_host,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("4xA600", 'did you mean "A6000"?'),
        ("4xH10", 'did you mean "H100"?'),
        ("0xH100", "hosts go from 1 to 4,096"),
        ("9999x8xH100", "hosts go from 1 to 4,096"),
        ("4x", "no card"),
    ],
)
def test_a_card_that_is_not_known_is_one_line(text: str, said: str) -> None:
    with pytest.raises(AvstError, match="--gpus") as error:
        parse_machines(text, CARDS)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_hosts_of_more_cards() -> None:
    four = parse_machines("4xA6000", CARDS)
    assert [(some.hosts, some.per_host) for some in (four.of(1), four.of(2), four.of(4), four.of(64))] == [
        (1, 1),
        (1, 2),
        (1, 4),
        (16, 4),
    ]


def test_the_last_host_may_have_places_left() -> None:
    """Eight cards on hosts of six stand on two hosts and are eight, sixteen stand on three."""
    six = parse_machines("6xA6000", CARDS)
    assert [(some.cards, some.hosts, some.per_host) for some in (six.of(4), six.of(8), six.of(16))] == [
        (4, 1, 4),
        (8, 2, 6),
        (16, 3, 6),
    ]
    assert (str(six.of(8)), str(six.of(12))) == ("8xA6000 on 2 hosts", "2x6xA6000")


def test_a_card_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "cards.yaml"
    file.write_text("mine:\n  memory_gib: 16\n  tflops: 50\n  bandwidth_gb_s: 400\n  matmul_share: 0.5\n")
    machines = parse_machines("2xMine", CARDS | read_cards(file))
    assert (machines.name, machines.card.memory_gib, machines.card.operations) == ("mine", 16, 25e12)
    file.write_text("mine:\n  memory_gib: 16\n  tflop: 50\n  bandwidth_gb_s: 400\n")
    with pytest.raises(AvstError, match=r'cards.yaml:3: unknown key "mine.tflop"; did you mean "tflops"'):
        read_cards(file)
    file.write_text("mine: 3\n")
    with pytest.raises(AvstError, match="expected a card's fields"):
        read_cards(file)


def test_prices_are_the_users() -> None:
    table = {"currency": "EUR", "kwh": 0.3, "rtx a6000": 0.79, "H100": 2}
    assert read_prices(table, "A6000", "p.yaml") == Prices(0.79, 0.3, "EUR")
    assert read_prices(table, find_card("h100", CARDS), "p.yaml") == Prices(2.0, 0.3, "EUR")
    with pytest.raises(AvstError, match=r"p\.yaml: no price of L4"):
        read_prices(table, "L4", "p.yaml")
    with pytest.raises(AvstError, match="H100 is 'two', expected a price"):
        read_prices({"H100": "two"}, "H100", "p.yaml")
