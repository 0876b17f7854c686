"""The terminal: commands, chat, words. Everything heavy is imported inside the command that needs it."""
