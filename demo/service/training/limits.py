"""How much a visitor may bring, and how long it is kept. No torch: pages say so before they need it."""

LEAST, MOST = 5, 200  # photographs to train on
MOST_JUDGED = 50
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
AWAY_S = 60  # how long all is kept once the page is closed, where it may come back
GONE = "Your detector is gone: this page was closed meanwhile, or not used for an hour. Train again, or bring it back."
