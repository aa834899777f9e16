"""The tables that `make bench-utility` measures on, real ones and generated ones.

All that a method may know of a table beforehand is public by construction: real tables have round
bounds that were written down from what the columns mean, generated ones are clipped where their
generator says. Features are scaled by these bounds to [-1, 1], as the pipeline does.
"""

from collections.abc import Callable

from benchmarks import generated, real
from benchmarks.table import Table

# Sizes are training rows × features; a share is that of class 1 where classes are uneven.
# The rule's constants were fitted on these, with few repeats.
FITTED: dict[str, Callable[[], Table]] = {
    "sample": real.sample,
    "breast cancer": real.breast_cancer,
    "digits": real.digits,
    "linear 500×5": lambda: generated.linear(500, 5, 2),
    "linear 5,000×20": lambda: generated.linear(5_000, 20, 2, informative=6),
    "linear 2,500×100": lambda: generated.linear(2_500, 100, 2, informative=20),
    "linear 10,000×10, 9 %": lambda: generated.linear(10_000, 10, 2, positive=0.07),
    "linear 8,000×30, 5 classes": lambda: generated.linear(8_000, 30, 5),
    "xor 4,000×10": lambda: generated.xor(4_000, 10),
    "ball 6,000×10": lambda: generated.ball(6_000),
    "moons 1,500×5": lambda: generated.moons(1_500),
    "rings 1,200×6": lambda: generated.rings(1_200),
    "tree 6,000×8, 3 classes": lambda: generated.decision_tree(6_000, 8, 3),
    "friedman 4,000×10": lambda: generated.friedman(4_000),
    "survey 9,000×48": lambda: generated.survey(9_000),
    "census 26,000×49, 24 %": lambda: generated.census(26_000),
    "clusters 100,000×25, 4 classes": lambda: generated.clusters(
        100_000, 25, classes=4, informative=10, apart=1
    ),
    "clusters 160,000×12": lambda: generated.clusters(160_000, 12, informative=8, apart=0.8),
}

# Nobody had trained on these when the rule was written.
UNSEEN: dict[str, Callable[[], Table]] = {
    "RAND: visits": real.visits,
    "NHANES: deaths": real.deaths,
    "Garavan: thyroid": real.thyroid,
    "interviews: health": real.health,
    "compensation: injuries": real.injuries,
    "survey: affairs": real.affairs,
    "thresholds 2,500×12": lambda: generated.thresholds(2_500, 12),
    "waves 5,000×6": lambda: generated.waves(5_000, 6),
    "spirals 3,000×4, 3 classes": lambda: generated.spirals(3_000),
    "checkerboard 8,000×4": lambda: generated.checkerboard(8_000),
    "experts 10,000×16": lambda: generated.experts(10_000, 12),
    "risk 4,000×14, 15 %": lambda: generated.risk(4_000),
    "genotypes 1,500×60": lambda: generated.genotypes(1_500, 60),
    "grades 6,000×8, 5 classes": lambda: generated.grades(6_000, 8),
    "assays 15,000×16, 3 classes": lambda: generated.assays(15_000, 16),
    "interactions 30,000×13": lambda: generated.interactions(30_000, 12),
    "teacher 120,000×16, 4 classes": lambda: generated.teacher(120_000, 16, 4),
    "smooth 1,000,000×10": lambda: generated.smooth(1_000_000, 10),
}

TABLES = FITTED | UNSEEN
