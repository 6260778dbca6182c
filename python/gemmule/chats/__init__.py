"""Conversations: turns, tools, files, full contexts."""
