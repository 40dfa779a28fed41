"""`python -m resflow` is `resflow`."""

from resflow.cli.main import main

if __name__ == "__main__":
    main()
