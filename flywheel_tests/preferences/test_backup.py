"""Mean backup: children weigh by how often they were sampled."""

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.preferences.backup import Value, backup


def tree(edges: list[tuple[int, int]], multiplicity: dict[int, int], ends: dict[int, tuple[bool, float]]) -> nx.DiGraph:
    """A tree of bare nodes: `ends` gives success and credit of leaves."""
    made = nx.DiGraph()
    for node in sorted({0, *(child for _, child in edges)}):
        success, credit = ends.get(node, (None, None))
        made.add_node(node, multiplicity=multiplicity.get(node, 1), success=success, credit=credit)
    made.add_edges_from(edges)
    return made


def test_the_mean_of_what_was_reached():
    #        0
    #   1 (x3)   2 (x1)
    #   3x2 4x2    5x4
    values = backup(
        tree(
            [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5)],
            {1: 3, 3: 2, 4: 2, 5: 4},
            {3: (True, 1.0), 4: (False, 0.2), 5: (False, 0.4)},
        )
    )
    assert values[5] == Value(success=0.0, credit=0.4, visits=4, success_variance=0.0, credit_variance=0.0)
    assert values[1].success == 0.5
    assert values[1].credit == pytest.approx(0.6)
    assert values[1].visits == 4
    assert values[1].success_variance == 0.25
    assert values[1].credit_variance == pytest.approx(0.16)
    # Three of four samples went to 1: .75 x .5, whatever the numbers of leaves.
    assert values[0].success == 0.375
    assert values[0].credit == pytest.approx(0.75 * 0.6 + 0.25 * 0.4)
    assert values[0].visits == 8


@given(st.data())
def test_the_order_of_nodes_does_not_matter(data: st.DataObject):
    size = data.draw(st.integers(2, 12))
    parents = [data.draw(st.integers(0, child - 1)) for child in range(1, size)]
    edges = [(parent, child) for child, parent in enumerate(parents, 1)]
    weights = {node: data.draw(st.integers(1, 4)) for node in range(size)}
    leaves = set(range(size)) - set(parents)
    ends = {leaf: (good := data.draw(st.booleans()), 1.0 if good else data.draw(st.sampled_from([0.0, 0.3])))
            for leaf in leaves}  # fmt: skip
    plain = tree(edges, weights, ends)
    shuffled = nx.DiGraph()
    for node in data.draw(st.permutations(list(plain))):
        shuffled.add_node(node, **plain.nodes[node])
    shuffled.add_edges_from(data.draw(st.permutations(edges)))
    assert backup(shuffled) == backup(plain)
    assert all(0 <= value.success <= value.credit + 1e-9 <= 1 + 1e-9 for value in backup(plain).values())
