"""The mvad data of R's TraMineR: what R says of them, we say too.

References: TraMineR's LCS distances, hclust's ward.D on them, and what WeightedCluster prints of its partitions; the
four medoids are those of WeightedCluster's manual (Studer 2013).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.cluster.hierarchy import cut_tree
from sklearn.metrics import adjusted_rand_score

from journeylab.personas.distances import (
    Metric,
    SequenceRules,
    Sequences,
    code_sequences,
    derive_transition_costs,
    settle_metric,
)
from journeylab.personas.histories import fold_sequences
from journeylab.personas.medoids import find_medoids
from journeylab.personas.partitions import judge_partition, link_ward

DATA = Path(__file__).parents[2] / "shared" / "data" / "mvad"
STATES = ("employment", "FE", "HE", "joblessness", "school", "training")
# indel 1.5 with these costs, in the order of STATES
COSTS = np.array(
    [
        [0, 1, 1, 2, 1, 1],
        [1, 0, 1, 2, 1, 2],
        [1, 1, 0, 3, 1, 2],
        [2, 2, 3, 0, 3, 1],
        [1, 1, 1, 3, 0, 2],
        [1, 2, 2, 1, 2, 0],
    ]
)
MEDOIDS = (66, 467, 607, 641)

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the shared data folder is not beside the project")


@pytest.fixture(scope="module")
def mvad() -> pd.DataFrame:
    return pd.read_csv(DATA / "mvad.csv")


@pytest.fixture(scope="module")
def sequences(mvad: pd.DataFrame) -> Sequences:
    months = mvad.loc[:, "Sep.93":"Jun.99"]
    return code_sequences([[line] for line in months.to_numpy().tolist()], STATES)


@pytest.fixture(scope="module")
def lcs(sequences: Sequences) -> NDArray[np.uint8]:
    return settle(SequenceRules(distance="lcs", normalise=False), sequences).measure_all(sequences)


def settle(rules: SequenceRules, sequences: Sequences) -> Metric:
    return settle_metric(rules, STATES, sequences)


def read_reference(name: str) -> pd.DataFrame:
    return pd.read_csv(DATA / name, index_col=0)


def test_sequences_and_their_weights(mvad: pd.DataFrame, sequences: Sequences) -> None:
    variants, weights, _ = fold_sequences(sequences, mvad["weight"].to_numpy())
    assert variants.shape == (490,)
    assert weights.sum() == pytest.approx(711.57)
    top = np.argsort(-weights)[:4]
    spells = [
        [(STATES[code], codes.count(code)) for code in dict.fromkeys(codes)] for codes in variants[top].to_lists()
    ]
    assert spells == [
        [("school", 24), ("HE", 46)],
        [("school", 25), ("HE", 45)],
        [("training", 22), ("employment", 48)],
        [("employment", 70)],
    ]
    assert weights[top].round().tolist() == [33, 25, 18, 15]


def test_lcs_matrix_is_that_of_r(lcs: NDArray[np.uint8]) -> None:
    expected = read_reference("ref_mvad_lcs_diss.csv.gz").to_numpy()
    np.testing.assert_array_equal(lcs, expected)


def test_optimal_matching_with_these_costs_is_lcs(lcs: NDArray[np.uint8], sequences: Sequences) -> None:
    """By the alignment of weighted costs too, which the plain ones do not need."""
    some = sequences[np.arange(0, 712, 4)]
    assert (settle(SequenceRules(normalise=False), some).measure_all(some) == lcs[::4, ::4]).all()
    table = pd.DataFrame(2.0 * (1 - np.eye(6)), STATES, STATES)
    weighted = settle(SequenceRules(substitution=table, normalise=False), some)
    assert weighted.gains is not None
    np.testing.assert_array_equal(weighted.measure_all(some), lcs[::4, ::4])


def test_ward_partitions_are_those_of_r(lcs: NDArray[np.uint8]) -> None:
    tree, expected = link_ward(lcs), read_reference("ref_mvad_cutree_2_10.csv")
    np.testing.assert_allclose(tree[:, 2], pd.read_csv(DATA / "ref_mvad_hclust_wardD.csv")["height"], rtol=1e-9)
    for k in range(2, 11):
        assert adjusted_rand_score(cut_tree(tree, k)[:, 0], expected[str(k)]) == 1
    assert sorted(np.bincount(cut_tree(tree, 4)[:, 0]).tolist()) == [151, 153, 197, 211]


def test_measures_are_those_of_r(lcs: NDArray[np.uint8]) -> None:
    partitions, expected = read_reference("ref_mvad_cutree_2_10.csv"), read_reference("ref_mvad_clustrange_stats.csv")
    found = pd.DataFrame([judge_partition(lcs, partitions[str(k)]) for k in range(2, 11)], index=expected.index)
    assert set(found.columns) == set(expected.columns.str.lower())
    np.testing.assert_allclose(found[expected.columns.str.lower()], expected, rtol=0, atol=1e-9)


def test_medoids_are_those_of_r_or_as_good(mvad: pd.DataFrame, sequences: Sequences) -> None:
    variants, weights, place = fold_sequences(sequences, mvad["weight"].to_numpy())
    rules = SequenceRules(indel=1.5, substitution=pd.DataFrame(COSTS, STATES, STATES), normalise=False)
    distances = settle(rules, variants).measure_all(variants)
    theirs = place[np.array(MEDOIDS) - 1]
    loss = distances[:, theirs].min(axis=1).astype(np.float64) @ weights
    for seed in range(3):
        assert find_medoids(distances, 4, weights, seed=seed).loss <= loss * (1 + 1e-9)


def test_transition_costs_are_trate_counted_by_hand(mvad: pd.DataFrame, sequences: Sequences) -> None:
    """2 - p(a, b) - p(b, a)."""
    months = mvad.loc[:, "Sep.93":"Jun.99"].to_numpy()
    counted = pd.crosstab(months[:, :-1].ravel(), months[:, 1:].ravel(), normalize="index")
    expected = 2 - counted - counted.T
    costs = pd.DataFrame(derive_transition_costs(sequences, 6), STATES, STATES)
    for one in STATES:
        assert costs.loc[one, one] == 0
        for other in set(STATES) - {one}:
            assert costs.loc[one, other] == pytest.approx(expected.loc[one, other])
