"""Runs on this machine by kfp.local: a child process as engine, its steps as processes, the endpoint as another."""
