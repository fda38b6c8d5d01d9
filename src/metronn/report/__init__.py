"""Reports of a build: text for the terminal, and one HTML file that needs nothing beside it."""
