"""How a run is reported: on the console and as a page."""
