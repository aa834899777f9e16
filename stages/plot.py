"""Draw the released figures: the `plot` stage. It reads released tables only, no private row."""

from pathlib import Path

from stages.errors import run
from stages.files import read_csv, read_json, whole_file
from stages.reporting import figures
from stages.reporting.tables import table_of

PLOTS = Path("plots")
METRICS = Path("metrics")


def main() -> None:
    train = read_json(METRICS / "train.json")
    test = read_json(METRICS / "evaluate.json")
    epochs = [
        {key: float(value) for key, value in row.items()}
        for row in read_csv(PLOTS / "training.csv")
    ]
    table, classes = table_of(read_csv(PLOTS / "test_counts.csv"))

    drawings = {
        "training.png": figures.training(epochs, train),
        "confusion_matrix.png": figures.confusion_matrix(table, classes, test),
        "roc.png": figures.roc(table, classes, test),
        "calibration.png": figures.calibration(table, classes, test),
    }
    for name, figure in drawings.items():
        with whole_file(PLOTS / name) as scratch:
            figure.savefig(scratch, format="png", dpi=150)


if __name__ == "__main__":
    run(main)
