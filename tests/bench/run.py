#!/usr/bin/python3 -I
import sys

sys.path[:0] = [__file__.rpartition("/bench/")[0], __file__.rpartition("/tests/")[0]]
from bench.main import main  # noqa: E402

sys.exit(main())
