from __future__ import annotations

import subprocess
import sys


def test_heavy_libraries_are_loaded_only_when_used():
    code = (
        "import sys, ttl_jax.report, ttl_jax.evaluation\n"
        "print([name for name in ('sklearn', 'scipy.stats', 'matplotlib', 'jinja2', 'rich')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
