"""Recipes, networks, fitting, augmentation, generated pen styles and export: the only code that imports TensorFlow."""
