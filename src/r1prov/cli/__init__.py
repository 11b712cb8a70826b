"""The command line: one thin file a command. Parse options, call one function, print one string."""
