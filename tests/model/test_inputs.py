"""Numbers in pieces: a public map, by hand and in either library."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.model.inputs import AS_THEY_ARE, BEND_SCALE, Pieces

GRID = np.linspace(-1, 1, 20_001)[:, None]


def test_two_pieces_by_hand():
    # Of K = 2 the first ramp rises from -1 to 0 and stays. As (2·ramp - 1)/√2 it has the mean
    # (2·¾ - 1)/√2 = ½/√2, and the slope 3·E[x·(2·ramp - 1)]/√2 = 1/√2, as E[x·ramp] is
    # ½·(∫ x·(x + 1) over [-1, 0] + ∫ x over [0, 1]) = ½·(-1/6 + 1/2) = 1/6.
    pieces = Pieces(numbers=(0,), count=2)
    first = {-1: -1, 0: 1, 1: 1}
    for x, ramp in first.items():
        expected = BEND_SCALE / np.sqrt(2) * (ramp - 0.5 - x)
        assert pieces.apply(np.array([[float(x)]]))[0, 1] == pytest.approx(expected)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 64])
def test_bends_hold_nothing_of_a_straight_line(count):
    told = Pieces(numbers=(0,), count=count).apply(GRID)
    assert np.array_equal(told[:, :1], GRID)
    bends = told[:, 1:]
    assert bends.shape[1] == count
    assert np.abs(bends.mean(axis=0)).max() < 1e-4
    assert np.abs((bends * GRID).mean(axis=0)).max() < 1e-4


def test_together_with_a_straight_line_bends_make_any_piecewise_line():
    # A threshold at a quarter, as near as eight ramps come to it: exact outside of one piece.
    told = np.c_[Pieces(numbers=(0,), count=8).apply(GRID), np.ones(len(GRID))]
    wanted = np.clip((GRID[:, 0] - 0.25) * 4, 0, 1)
    weights = np.linalg.lstsq(told, wanted, rcond=None)[0]
    assert np.abs(told @ weights - wanted).max() < 1e-9


def test_features_keep_their_places_and_others_are_told_once():
    features = np.array([[0.5, 1.0, -0.25]], np.float32)
    pieces = Pieces(numbers=(0, 2), count=4)
    told = pieces.apply(features)
    assert told.shape[1] == pieces.width(3) == 11
    assert np.array_equal(told[:, :3], features)
    alone = Pieces(numbers=(0,), count=4).apply(features[:, 2:])
    assert np.array_equal(told[:, 7:], alone[:, 1:])
    assert AS_THEY_ARE.apply(features) is features
    assert AS_THEY_ARE.width(3) == 3


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=8), st.integers(1, 16))
def test_both_libraries_tell_the_same_of_any_shape(numbers, count):
    features = np.array(numbers, np.float32)[:, None, None]
    pieces = Pieces(numbers=(0,), count=count)
    ours = pieces.apply(features)
    theirs = pieces.apply(torch.from_numpy(features))
    assert ours.dtype == np.float32
    assert theirs.dtype == torch.float32
    np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-6)
    assert np.isfinite(ours).all()
