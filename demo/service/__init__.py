"""What a visitor can do, one call each, for every face. Knows nothing of Gradio or Streamlit.

`catalogue`: categories with shipped models, their detectors and examples. `comparison`: one image by the detectors of a
category, which gives what is in `verdict`. `likeness`: the normal place that an image's farthest place looks like most.
`attention`: what the blocks of one variant do to an image. `roc`: measured curves. `downloads`: files to take away.
`training`: a detector of a visitor's own parts. `private`: where what visitors bring lies. Errors that a visitor can
correct are raised as AttentDifferNetError, with a message for them.
"""
