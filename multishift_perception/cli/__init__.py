"""The command `multishift`: one module per subcommand, each with a click command `command`."""
