"""Run federations on Flower; the only package that imports it, and only when it is used."""
