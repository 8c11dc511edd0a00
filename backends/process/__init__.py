"""The process backend: steps and predictor are child processes of this interpreter."""
