"""The fuzzer's modules, as `python tests/torture/fuzz.py` imports them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
