"""`python -m nozle_demo`."""

from nozle_demo.cli import main

raise SystemExit(main())
