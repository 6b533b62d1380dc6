"""A small file system of its own, in memory, that can be filled to the last byte. Making one needs root."""

import contextlib
import errno
import os
import subprocess
from pathlib import Path


class Disk:
    """A tmpfs of `megabytes` at `folder`."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self._size = megabytes
        self._mounted = False

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    @property
    def can_fill(self) -> bool:
        """Whether it is a file system of its own; else filling it would fill the machine's."""
        return self._mounted

    def mount(self) -> None:
        """Make it; a plain folder where that is not allowed."""
        self.folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={self._size}m", "refundry-chaos", str(self.folder)]
        with contextlib.suppress(FileNotFoundError):
            self._mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0

    def fill(self) -> None:
        """Take every free byte."""
        with self._ballast.open("ab") as ballast:
            while free := _free(self.folder):
                try:
                    os.posix_fallocate(ballast.fileno(), ballast.seek(0, os.SEEK_END), free)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return

    def empty(self) -> None:
        """Give them back."""
        self._ballast.unlink(missing_ok=True)

    def remove(self) -> None:
        """Unmount it, in use or not."""
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], capture_output=True, check=False)
            self._mounted = False


def _free(folder: Path) -> int:
    """Free bytes."""
    found = os.statvfs(folder)

    return found.f_bavail * found.f_frsize
