"""What a practitioner writes for each use: the code that docs/your-own-project.md shows, and that the tests run."""
