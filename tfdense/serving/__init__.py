"""Serving an exported network over HTTP and gRPC, see docs/serving.md."""
