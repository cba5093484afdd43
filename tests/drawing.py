"""What the tests of charts share."""

import xml.etree.ElementTree as ET


def parsed(chart):
    """Return the chart's SVG, which must be well-formed and have a title and a description."""
    root = ET.fromstring(str(chart.drawing))
    assert root.attrib["role"] == "img"
    ids = {element.attrib["id"] for element in root if "id" in element.attrib}
    assert set(root.attrib["aria-labelledby"].split()) == ids
    assert all(root.find(name).text for name in ("title", "desc"))
    return root


def texts(chart):
    return [element.text for element in parsed(chart).iter() if element.tag == "text"]


def has_table(chart):
    """Return whether the chart's figures are in a table of its own whose rows fit its columns, or in another's."""
    return bool(chart.table) or bool(chart.rows and all(len(row) == len(chart.columns) for row in chart.rows))
