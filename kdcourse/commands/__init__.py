"""What each command does, a module per command with ``run(options)``; ``kdcourse/__main__.py`` has the parser."""
