"""Views: the native record as the formats of the field."""
