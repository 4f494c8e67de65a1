"""Botyard's rooms. ARCHITECTURE.md is the map; imports go down its floors only."""
