"""`python -m hexdsl` is `hexc`."""

import sys

from hexdsl.cli import main

sys.exit(main())
