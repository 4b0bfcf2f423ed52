"""The dashboards: a module each, made of the panels in `panels`."""
