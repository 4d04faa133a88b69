"""The documentation site: mkdocs over the repository as it lies, with the notebooks' own pictures.

`execute` runs the notebooks on the pocket model, `pages` is the hook with which mkdocs takes them
and every file that a page links to.
"""
