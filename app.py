"""Entry of the Hugging Face Space, and of `make demo`: http://localhost:7860, or `--port N`."""

try:
    import spaces  # on ZeroGPU Spaces only; it must come before torch
except ImportError:
    pass
else:
    spaces.GPU(lambda: None)  # ZeroGPU starts no app without one; this one needs no GPU, so it is never called

import os
import signal
import sys
from contextlib import suppress
from threading import Thread

from demo.ports import port_asked_for

if __name__ == "__main__":  # before torch is loaded, which takes seconds
    port = port_asked_for(7860, "GRADIO_SERVER_PORT")

from attentdiffernet import stages
from attentdiffernet.errors import AttentDifferNetError
from demo.service import catalogue, comparison
from demo.space import page

try:
    catalogue.check_files()
    catalogue.preload()
    demo = page.build()
except AttentDifferNetError as error:
    sys.exit(str(error))


def warm_up() -> None:
    with suppress(AttentDifferNetError):  # the page is stopped meanwhile
        comparison.warm_up()


if __name__ == "__main__":
    stages.show_log()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as Ctrl+C: what visitors brought is removed
    Thread(target=warm_up, daemon=True).start()  # while the page is loaded
    host = os.environ.get("GRADIO_SERVER_NAME", "localhost")
    print(f"The demo is at http://{host}:{port} (stop it with Ctrl+C)", flush=True)
    demo.launch(server_port=port, **page.launch_options(demo))
