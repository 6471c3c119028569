"""`python -m avst …`, and so `accelerate launch -m avst …` and `torchrun -m avst …`."""

import sys

from avst.cli import main

if __name__ == "__main__":
    sys.exit(main())
