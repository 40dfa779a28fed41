"""Templates of this folder as text."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from resflow.report.markdown import escaped


def render(template: str, **values: Any) -> str:
    """Fill a template; `md` escapes text for Markdown."""
    environment = Environment(
        loader=PackageLoader("resflow.inspection.export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = escaped
    return environment.get_template(template).render(values)
