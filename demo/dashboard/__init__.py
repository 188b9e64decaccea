"""The analysis dashboard, a Streamlit app: a page per file, which shows what `demo.service` and `study` return.

`address`: choices that a link reproduces. `widgets`: what pages share. `forest`, `differences`, `pipeline`: drawings.
"""
