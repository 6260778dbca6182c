"""What a checkpoint holds, and where it comes from: found, downloaded, looked at, without being loaded."""
