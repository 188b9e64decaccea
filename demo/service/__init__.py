"""What a visitor can do, one call each, for every face. Knows nothing of Gradio or Streamlit.

`catalogue`: categories with shipped models. `comparison`: one image by all variants of a category, which gives what is
in `verdict`. `attention`: what the blocks of one variant do to an image. `roc`: measured curves. `downloads`: files to
take away. Errors that a visitor can correct are raised as AttentDifferNetError, with a message for them.
"""
