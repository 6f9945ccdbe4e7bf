"""Images, videos and webcams in, pictures and predictions out."""
