"""`python -m resflow` is `resflow`."""

from resflow import interruption


def main() -> None:
    """Run the command line, which takes a moment to import: a Ctrl-C is heard from here on."""
    with interruption.program():
        from resflow.cli import main as command_line

        command_line.main()


if __name__ == "__main__":
    main()
