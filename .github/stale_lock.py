"""Fail where dvc.lock tells of a run with other parameters than params.yaml has.

Then somebody changed a parameter and committed no run of it, and a comparison would show the
figures of the old one. Read with the YAML library that DVC uses, for which 1e-5 is a number.
"""

import sys
from pathlib import Path

from ruamel.yaml import YAML

yaml = YAML(typ="safe")
params = yaml.load(Path("params.yaml"))
stages = yaml.load(Path("dvc.lock"))["stages"]

stale = [
    f"{stage} ran with {name}={value!r}, and params.yaml has {params.get(name)!r}"
    for stage, locked in stages.items()
    for name, value in locked.get("params", {}).get("params.yaml", {}).items()
    if params.get(name) != value
]
if stale:
    advice = "Run `dvc repro` and commit what it writes, dvc.lock with it."
    sys.exit("\n".join(["error: dvc.lock does not fit params.yaml:", *stale, advice]))
