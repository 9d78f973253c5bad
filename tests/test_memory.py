import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from processes import ask, form, running

from lib.storage import PROJECT_ROOT

GROW = """
import io, re, threading
from PIL import Image
from lib.images import decode
from lib.memory import return_large_blocks
assert return_large_blocks()
buffer = io.BytesIO()
Image.new("RGB", (6000, 4000)).save(buffer, "PNG")
for _ in range(12):
    thread = threading.Thread(target=decode, args=[buffer.getvalue()])
    thread.start()
    thread.join()
print(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells what is resident")
def test_large_images_leave_nothing_behind():
    result = subprocess.run([sys.executable, "-c", GROW], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert int(result.stdout) < 200_000  # kB; one such image takes 72 MB


def test_a_service_does_not_grow_by_large_broken_images(tiny_run, shared_environment):
    buffer = io.BytesIO()
    Image.new("RGB", (8000, 5000)).save(buffer, "PNG")
    body, headers = form([buffer.getvalue()[:-10_000]])

    def resident(service):
        status = Path(f"/proc/{service.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    with running(shared_environment) as service:
        for _ in range(3):
            assert ask(service, "POST", "/predict", body, headers)[0] == 422
        before = resident(service)
        for _ in range(12):
            assert ask(service, "POST", "/predict", body, headers)[0] == 422
        assert resident(service) < before + 60_000
