"""`python -m avst.doctor.try_imports MODULE…`: imports each and says how it went. Run by avst.doctor.packages."""

from __future__ import annotations

import importlib
import json
import sys
import warnings


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore")
    for name in names:
        print(json.dumps({"starting": name}), flush=True)
        try:
            importlib.import_module(name)
            said = ""
        except BaseException as error:  # a package may raise anything, SystemExit too
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        print(json.dumps({"name": name, "error": said}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
