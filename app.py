"""Entry of the Hugging Face Space, and of `make demo`: http://localhost:7860."""

try:
    import spaces  # on ZeroGPU Spaces only; it must come before torch
except ImportError:
    pass
else:
    spaces.GPU(lambda: None)  # ZeroGPU starts no app without one. Nothing here needs a GPU, so it is never called

from threading import Thread

from demo import gradio_app, service

service.preload()
demo = gradio_app.build()

if __name__ == "__main__":
    Thread(target=service.warm_up, daemon=True).start()  # while the page is loaded
    demo.launch(**gradio_app.launch_options())
