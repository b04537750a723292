"""Whether this environment has the packages of a requirements file, in the very versions that it pins.

usage: check_packages.py REQUIREMENTS
"""

import importlib.metadata
import sys

wrong = []
with open(sys.argv[1]) as lines:
    for line in lines:
        name, pinned, version = line.split("#")[0].strip().partition("==")
        if not pinned:
            continue
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found = "missing"
        if found != version:
            wrong.append(f"  {name} {version}: {found}")
if wrong:
    raise SystemExit("\n".join(wrong))
