"""`python -m accord`, and the console script. Whatever fails while the command line is imported,
as a broken package does, ends in words as well.
"""

from __future__ import annotations

from accord.environment.faults import run_guarded


def main() -> None:
    """The console script."""

    def run() -> None:
        from accord.cli.app import app

        app()

    run_guarded(run)


if __name__ == "__main__":
    main()
