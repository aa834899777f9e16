"""Make the bundle that may leave the building, or verify one.

The bundle holds the model with its schema and as an ONNX file, the statement, the report, metrics,
plots and a model card; no checkpoint, no commit, nothing of dvc.lock, and no value of any private
row. Verifying needs nothing but the bundle and this code.
"""

from pathlib import Path

from stages.commands import new_parser, run
from stages.reporting.bundle import publish
from stages.reporting.verify import verify

EXAMPLE = "python -m stages.publish bundle && python -m stages.publish --verify bundle"


def main() -> None:
    parser = new_parser(__doc__, EXAMPLE)
    parser.add_argument("folder", type=Path, help="of the bundle, which must not exist yet")
    parser.add_argument("--verify", action="store_true", help="check the bundle that is there")
    arguments = parser.parse_args()
    if arguments.verify:
        statement = verify(arguments.folder)
        verdict = "agrees with its statement, and both accountants with the ε in it"
    else:
        statement = publish(arguments.folder)
        verdict = "may leave the building"
    epsilon, delta = (statement["evidence"][name] for name in ("epsilon", "delta"))
    print(f"{arguments.folder} {verdict}: ε = {epsilon:.4f} at δ = {delta:g}")
    print(f"fingerprint of its statement, to be told by another way: {statement['checksum']}")


if __name__ == "__main__":
    run(main)
