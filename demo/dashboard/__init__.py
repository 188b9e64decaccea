"""The analysis dashboard, a Streamlit app: one file per page, each showing what `service` and the study return."""
