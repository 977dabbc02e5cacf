"""The YAML deck: its sections, its loader, and the rules that tie keys and molecules together."""
