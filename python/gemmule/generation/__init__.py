"""From ids to new ones: sampling, structures, drafts, and many sequences together."""
