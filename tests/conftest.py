"""Makes the modules beside this file importable for all lanes."""
