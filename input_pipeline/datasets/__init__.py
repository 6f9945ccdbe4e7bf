"""Where each dataset's download has its files."""
