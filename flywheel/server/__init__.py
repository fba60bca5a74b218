"""The server: captures come in and exports go out over HTTP."""
