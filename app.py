"""Entry of the Hugging Face Space, and of `make demo`: http://localhost:7860."""

try:
    import spaces  # on ZeroGPU Spaces only; it must come before torch
except ImportError:
    pass
else:
    spaces.GPU(lambda: None)  # ZeroGPU starts no app without one; this one needs no GPU, so it is never called

from threading import Thread

from demo.service import catalogue, comparison
from demo.space import page

catalogue.preload()
demo = page.build()

if __name__ == "__main__":
    Thread(target=comparison.warm_up, daemon=True).start()  # while the page is loaded
    demo.launch(**page.launch_options())
