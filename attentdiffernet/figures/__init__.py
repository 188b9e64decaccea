"""Figures, returned and never shown or saved. No torch.

`screen`: Plotly for pages. `print`: Matplotlib for papers. `overlay`: heat on photographs and its colour bar.

Backgrounds are transparent and INK is a grey that is readable on light and dark pages. Nothing is loaded from another
host. Plotly and Matplotlib are imported inside the functions that use them, because each takes half a second; pyplot is
not used, because it keeps a global list of open figures. Bad input raises ValueError.
"""
