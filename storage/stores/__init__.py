"""Where the bytes of a library are: a folder or an S3 prefix behind one protocol (``base.Store``)."""
