"""What desktops, cameras, clouds and storage boxes leave in folders of photos: never a photo, never a class.

The rule is by name alone. Whatever begins with a dot is hidden, and passed over; so is what the tables below list, in
small or capital letters. `resflow data info` names what was passed over; studies/README.md tells the rule.
"""

from __future__ import annotations

from pathlib import Path

NAMES = {
    "Windows": ("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin",
                "system volume information", "found.000"),
    "macOS": ("icon\r", "__macosx", "network trash folder", "temporary items"),
    "Linux": ("lost+found",),
    "storage boxes": ("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),
    "programs": ("picasa.ini", "zbthumbnail.info", "sync.ffs_db", "sync.ffs_lock", "_gsdata_", "__pycache__"),
}  # fmt: skip
ENDINGS = {  # of files; a class folder may be called so
    "unfinished downloads": (".part", ".partial", ".crdownload", ".download", ".opdownload", ".aria2", ".filepart"),
    "unfinished copies and backups": (".tmp", ".temp", ".bak", ".ffs_tmp", ".swp", "~"),
    "storage boxes": ("@synoeastream", "@synoresource"),
}
ALL_NAMES = frozenset(name for names in NAMES.values() for name in names)
ALL_ENDINGS = tuple(ending for endings in ENDINGS.values() for ending in endings)


def is_litter(path: Path) -> bool:
    """Tell whether a file or a folder is passed over, by its name."""
    name = path.name.lower()
    if name.startswith((".", "~$")) or name in ALL_NAMES:
        return True
    return name.endswith(ALL_ENDINGS) and not path.is_dir()
