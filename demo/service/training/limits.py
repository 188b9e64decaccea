"""How much a visitor may bring, and how long it is kept. No torch: pages say so before they need it."""

LEAST, MOST = 5, 200  # photographs to train on
MOST_JUDGED = 50
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
KEPT_S = 3600  # how long what nobody uses is kept
AWAY_S = 60  # and once the page is closed, where it may come back
GONE = "Your detector is gone: this page was closed meanwhile, or not used for an hour. Train again, or bring it back."
