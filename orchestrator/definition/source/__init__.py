"""From text to JSON with places: YAML, JSON, lines and columns. Imports wf.errors. Pure."""
