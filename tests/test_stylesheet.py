"""The style sheet that reports and the service's pages share."""

import re

import pytest

from lib.stylesheet import stylesheet


def luminance(colour):
    """Relative luminance of a colour #rrggbb (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("name", ["ink", "soft", "accent", "good", "bad"])
def test_text_stands_out_from_the_ground(name):
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", stylesheet()))
    assert luminance("#ffffff") == pytest.approx(1)
    assert 1.05 / (luminance(colours[name]) + 0.05) >= 4.5


def test_it_loads_nothing():
    assert "url(" not in stylesheet()
    assert "@import" not in stylesheet()
