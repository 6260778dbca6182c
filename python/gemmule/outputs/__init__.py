"""Files and folders that appear under their names only when they are whole."""
