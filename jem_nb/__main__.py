"`python -m jem_nb` is the command `jem_nb`, for an environment that is not on the path."
import sys

from .terminal import main

if __name__ == '__main__': sys.exit(main())
