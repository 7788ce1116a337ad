"""Matching films: frames as they come, and a job that reads, matches, draws and writes one."""
