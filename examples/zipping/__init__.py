"""What `examples.zip_pipeline` works with: the ZIP format, a folder of an object store, a progress bar."""
