"""The console script, and `python -m accord`. A failure while the command line is imported, as of a
broken package, is reported in words as well.
"""

from __future__ import annotations

from accord.environment.faults import run_guarded


def main() -> None:
    """Run the console script."""

    def run() -> None:
        from accord.cli.app import app

        app()

    run_guarded(run)


if __name__ == "__main__":
    main()
