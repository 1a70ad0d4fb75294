"""Quote, run, stream, cancel."""
