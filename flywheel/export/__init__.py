"""Export: captured rows, pairs and step records as files of other tools' formats, each with a card."""
