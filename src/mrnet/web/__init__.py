"""A page and an HTTP API over the predictor: uploads, questions as jobs that survive a restart, and what one does with
their moments."""
