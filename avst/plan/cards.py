"""Cards by name, and what `4xA6000` and `2x8xH100` mean.

The figures are those of the makers' data sheets: dense products (the sheets' large figures count zeros that are left
out), the board's highest power. The shares and op_us are assumptions, for no card of this table was measured here:
`avst plan --measure` measures them on a machine that has one. (op_us: 2.4 on the CPU of docs/scaling.md, and something
for a kernel's launch.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avst.errors import AvstError
from avst.nearest import did_you_mean

ALONE = 8
NVLINK_3, NVLINK_4 = 300.0, 450.0  # one direction
PCIE_4, PCIE_5 = 25.0, 50.0  # of 16 lanes, one direction, as copies reach it


@dataclass(frozen=True)
class Card:
    """memory_gib: GiB;  tflops: dense products a second in the dtype of training, 10^12 operations;  bandwidth_gb_s:
    of its memory, 10^9 bytes;  watts: the board's limit;  link_gb_s: to another card of the host, one direction.

    matmul_share, memory_share, read_share: what of these a program reaches in products, in element-wise operations, and
    in reading weights for the few rows of decoding;  op_us: microseconds between two operations that the host starts,
    which is what decoding waits for on a fast card;  asynchronous: it works while its host starts the
    next (a GPU).
    """

    memory_gib: float = field(metadata={"above": 0})
    tflops: float = field(metadata={"above": 0})
    bandwidth_gb_s: float = field(metadata={"above": 0})
    watts: float = field(default=0.0, metadata={"least": 0})
    link_gb_s: float = field(default=PCIE_4, metadata={"above": 0})
    bfloat16: bool = True
    matmul_share: float = field(default=0.6, metadata={"above": 0, "most": 1})
    memory_share: float = field(default=0.8, metadata={"above": 0, "most": 1})
    read_share: float = field(default=0.8, metadata={"above": 0})
    op_us: float = field(default=3.0, metadata={"least": 0})
    asynchronous: bool = True

    @property
    def operations(self) -> float:
        """Floating-point operations a second that matrix products reach."""
        return self.tflops * 1e12 * self.matmul_share

    @property
    def read(self) -> float:
        """Bytes of weights a second."""
        return self.bandwidth_gb_s * 1e9 * self.read_share

    @property
    def room(self) -> float:
        """Bytes of memory."""
        return self.memory_gib * 2**30

    @property
    def bytes(self) -> float:
        """Bytes a second that reading and writing memory reaches."""
        return self.bandwidth_gb_s * 1e9 * self.memory_share


# nvidia.com's data sheets, named in each line; one direction of NVLink is half of the sheet's figure
CARDS: dict[str, Card] = {
    "A6000": Card(48, 154.8, 768, 300),  # proviz-print-nvidia-rtx-a6000-datasheet: 309.7 with sparsity
    "RTX6000Ada": Card(48, 364.2, 960, 300),  # rtx-6000-ada-datasheet: 1,457 in FP8 with sparsity
    "L40S": Card(48, 362.0, 864, 350),  # l40s-datasheet
    "L4": Card(24, 121.0, 300, 72),  # l4-datasheet: 242 with sparsity
    "A10": Card(24, 125.0, 600, 150),  # a10-datasheet
    "A40": Card(48, 149.7, 696, 300),  # a40-datasheet
    "RTX3090": Card(24, 71.0, 936, 350),  # ampere GA102 whitepaper, sums in float32
    "RTX4090": Card(24, 165.2, 1008, 450),  # ada whitepaper, sums in float32
    "RTX5090": Card(32, 209.5, 1792, 575, PCIE_5),  # blackwell RTX whitepaper, sums in float32
    "V100": Card(32, 125.0, 900, 300, 150.0, bfloat16=False),  # v100-datasheet, SXM2; float16: it has no bfloat16
    "A100-40": Card(40, 312.0, 1555, 400, NVLINK_3),  # a100-datasheet, SXM
    "A100-80": Card(80, 312.0, 2039, 400, NVLINK_3),
    "H100": Card(80, 989.4, 3350, 700, NVLINK_4),  # h100-datasheet, SXM: 1,979 with sparsity
    "H100-PCIe": Card(80, 756.0, 2000, 350, PCIE_5),
    "H200": Card(141, 989.4, 4800, 700, NVLINK_4),  # h200-datasheet, SXM
    "B200": Card(180, 2250.0, 7700, 1000, 900.0),  # dgx-b200-datasheet, an eighth of eight
}
ALIASES = {"A100": "A100-80", "RTXA6000": "A6000", "3090": "RTX3090", "4090": "RTX4090", "5090": "RTX5090"}
ALIASES |= {"6000Ada": "RTX6000Ada", "V100-32": "V100", "A100-40GB": "A100-40", "A100-80GB": "A100-80"}


@dataclass(frozen=True)
class Machines:
    """cards on hosts of per_host each, the last host perhaps with places left;  network_gb_s: of a host, one direction,
    to the others;  cores: of a host.

    Example: parse_machines("2x8xH100", CARDS) has 16 cards on 2 hosts.
    """

    name: str
    card: Card
    cards: int
    per_host: int
    network_gb_s: float = 12.5  # 100 Gbit/s
    cores: int = 32

    @property
    def hosts(self) -> int:
        return -(-self.cards // self.per_host)

    def __str__(self) -> str:
        if self.cards % self.per_host:
            return f"{self.cards}x{self.name} on {self.hosts} hosts"
        return f"{self.hosts}x{self.per_host}x{self.name}" if self.hosts > 1 else f"{self.per_host}x{self.name}"

    @property
    def places(self) -> int:
        """Cards of a host where there are to be more of them: as many as now, 8 where there is one alone."""
        return self.per_host if self.cards > 1 else ALONE

    def of(self, cards: int) -> Machines:
        """So many cards on hosts like these."""
        return replace(self, cards=cards, per_host=min(cards, self.places))


def parse_machines(text: str, cards: dict[str, Card], **more: Any) -> Machines:
    """`A6000`, `4xA6000`, `2x8xH100` (hosts x cards). Raises AvstError; more: of Machines."""
    match = re.fullmatch(r"(?:(?:(\d+)x)?(\d+)x)?(.+)", text.strip(), re.IGNORECASE)
    if match is None:
        raise AvstError(f"--gpus {text!r}: expected CARD, 4xCARD or 2x8xCARD (hosts x cards)")
    hosts, per_host = int(match[1] or 1), int(match[2] or 1)
    if not (1 <= hosts <= 4096 and 1 <= per_host <= 64):
        raise AvstError(f"--gpus {text}: hosts go from 1 to 4,096, the cards of a host from 1 to 64")
    name = find_card(match[3], cards)
    return Machines(name, cards[name], hosts * per_host, per_host, **more)


def find_card(asked: str, cards: dict[str, Card]) -> str:
    """The table's name of a card, whatever its spaces, dashes and letters' case. Raises AvstError."""
    for name in cards:
        if same_card(name, asked):
            return name
    near = did_you_mean(asked, [*cards, *ALIASES])
    raise AvstError(
        f"--gpus: no card {asked!r} is known{near or ': ' + ', '.join(cards)}; --cards FILE describes others"
    )


def same_card(one: str, other: str) -> bool:
    """Whether two spellings mean one card. Example: same_card("NVIDIA RTX A6000", "a6000")."""
    return _bare(one) == _bare(other)


def _bare(name: str) -> str:
    bare = re.sub(r"(nvidia|geforce|[\s_-])", "", name.lower())
    return _SHORT.get(bare, bare)


_SHORT: dict[str, str] = {}
_SHORT |= {_bare(short): _bare(name) for short, name in ALIASES.items()}


def read_cards(path: Path) -> dict[str, Card]:
    """Cards of the user's own: a YAML mapping, name -> the fields of Card. Raises AvstError naming file and line."""
    from avst.config.build import Builder
    from avst.config.yaml_file import read_yaml

    values, places = read_yaml(path)
    builder = Builder(places, str(path))
    found: dict[str, Card] = {}
    for name, fields in values.items():
        if not isinstance(fields, dict):
            raise AvstError(f"{builder.place(name)}: {name}: expected a card's fields, such as memory_gib")
        found[name] = builder.build(Card, fields, name)
    return found
