"""Data sets: catalogue, download and verification, pictures to images, corrections."""
