"""Every figure of the bench, one file after the other, each with a server of its own."""

import can
import credits
import events
import invoices
import realtime
from harness.bench import main

if __name__ == "__main__":
    main(
        can.measure, credits.measure, events.measure, invoices.measure, realtime.measure, description=__doc__
    )
