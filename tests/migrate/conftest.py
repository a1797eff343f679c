"""Settings of other tools, read from a file."""

import pytest

from accord.migrate.run import import_settings


@pytest.fixture
def read(tmp_path):
    def settings(text, name="settings.yaml", **more):
        file = tmp_path / name
        file.write_text(text)
        return import_settings(str(file), **more)

    return settings
