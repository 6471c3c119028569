"""Random texts made of the grammar's own pieces, which reach deeper into a parser than random letters do."""

from __future__ import annotations

from hypothesis import strategies as st

PIECES = (
    *("<answer>", "</answer>", "<object>", "</object>", "<when>", "</when>", "<where>", "</where>"),
    *("man", "a large, round pot", "dog, cat", "[0, 5.5]", "[2,3]", "[5, 1]", "[0, inf]"),
    *(
        "\n1.0: [1, 2, 30, 40]\n",
        "\n0: [0, 0, 0, 0]\n",
        "\n0.5:[5,5,9,9]\n",
        "\n1: [nan, 0, 1, 1]\n",
        "\n-1: [1,2,3,4]\n",
    ),
    *(",", "\n", " ", "<", ">", "<b>", "</b>", "<object", "é", "'", "the", "\x00", "\\", "999999999999", "<|im_end|>"),
)


def tag_soup(max_size: int = 40) -> st.SearchStrategy[str]:
    """Pieces in any order, half of the time inside an <answer>."""
    soup = st.lists(st.sampled_from(PIECES), max_size=max_size).map("".join)
    return st.one_of(soup, soup.map(lambda text: f"<answer>{text}</answer>"))
