"""How subgraphs are named where there is little room."""

from __future__ import annotations

from itertools import takewhile


def short_label(label: str) -> str:
    """`stage1_{expand,project}` for `stage1_expand+stage1_project`."""
    parts = label.split("+")
    same = sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*parts, strict=False)))
    prefix = parts[0][:same]
    prefix = prefix[: max(prefix.rfind(mark) for mark in "_./") + 1]
    if len(parts) == 1 or not prefix:
        return label
    return f"{prefix}{{{','.join(part.removeprefix(prefix) for part in parts)}}}"
