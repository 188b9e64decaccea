"""`python -m attentdiffernet.cli`."""

from . import main

main()
