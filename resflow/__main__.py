"""`python -m resflow` is `resflow`."""

import signal


def main() -> None:
    """Run the command line, which takes a moment to import: a signal is heard from here on."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # for the first milliseconds: no traceback of imports
    from resflow import interruption

    with interruption.program(is_all=True):
        from resflow.cli import main as command_line

        command_line.main()


if __name__ == "__main__":
    main()
