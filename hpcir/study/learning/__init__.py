"""The learning loop: geometries, labels and committees in turn."""
