"""Ways out: rows of a corpus version, or of a query, in the formats of the field, each with its card."""
