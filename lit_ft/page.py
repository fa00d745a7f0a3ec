"""HTML and Markdown from the templates, with everything that is not ours escaped."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lit_ft.markdown import cell

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """A template of the package with these values; escaped where the template is HTML."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: name is None or ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=False,
    )
    environment.filters.update(number=number, percent=percent, duration=duration, cell=cell)
    return environment.get_template(template).render(**values)


def number(value: Any, digits: int = 4) -> str:
    """A figure for people: whole ones with commas, others with so many digits after the point."""
    if value is None:
        return "\u2013"
    if isinstance(value, str):
        return value
    if float(value).is_integer() and abs(value) >= 10 or isinstance(value, int) or digits == 0:
        return f"{value:,.0f}"
    return f"{value:,.{digits}f}"


def percent(share: float) -> str:
    """0.123 -> 12.3 %."""
    return f"{share:.1%}".replace("%", "\u2009%")


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return "\u2013"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{seconds:.1f} s"


def picture(svg: bytes) -> str:
    """An SVG as the address of an <img>: no script in it could run there."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode('ascii')}"
