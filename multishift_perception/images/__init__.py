"""Images as cameras and data sets have them: messages, files, folders of files, label images."""
