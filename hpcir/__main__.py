"""`python -m hpcir`."""

import sys

from hpcir.cli import main

sys.exit(main())
