"""Defence: what is planted is found, and what is clean goes through."""
