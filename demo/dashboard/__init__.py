"""The analysis dashboard, a Streamlit app: one file per page, each placing what `evidence` and `service` return."""
