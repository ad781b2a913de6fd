"""The commands, one module for each. Their names and order are in `command_line.COMMANDS`."""
