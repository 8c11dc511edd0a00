"""Probes of a foreign cluster: whether it has what a run and an endpoint need. `probes.PROBES` lists them."""
