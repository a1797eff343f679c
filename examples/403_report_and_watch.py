"""One HTML page of a run, and the live page of all of them.

Shows: `accord report` writes a page without scripts that can be mailed; `accord watch` serves runs
as they grow, to this machine alone. Takes: seconds, once a run is there. Expect: a file, and the
runs as the live page lists them. Needs: pip install 'accord[watch]' for the second half.
"""

import json
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

from settings import OUTPUT, a_run, fresh

import accord

page = accord.report(a_run(), output=fresh("report.html"))
print(f"{page}: {page.stat().st_size / 1000:.0f} kB")

with socket.socket() as probe:  # a port that is free
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
server = subprocess.Popen(
    [sys.executable, "-m", "accord", "watch", str(OUTPUT), "--port", str(port)],
    stdout=subprocess.DEVNULL,
)
try:
    while server.poll() is None:
        try:
            # what the page in a browser asks for
            runs = json.load(urlopen(f"http://127.0.0.1:{port}/api/runs"))
            print("watched:", ", ".join(run["name"] for run in runs))
            break
        except URLError:  # not up yet
            time.sleep(0.1)
finally:
    server.terminate()
    server.wait()
