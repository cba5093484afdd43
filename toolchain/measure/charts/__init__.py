"""The charts of the page: each a pure function from a section of the report to a drawing and its table."""
