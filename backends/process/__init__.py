"""The backend `process`: steps and predictor as child processes of this interpreter."""
