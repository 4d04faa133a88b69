"""google.colab.output: ``eval_js`` asks whatever page a test has put in place."""

from types import SimpleNamespace

from google.colab.errors import MessageError

_page = None  # evaluate(script) runs a script in a page and gives its value (a promise awaited)
_widgets = SimpleNamespace(_installed_url=None)  # where anywidget looks
_MANAGER = "https://ssl.gstatic.com/colaboratory-static/widgets/colab-cdn-widget-manager/"


def eval_js(script, ignore_result=False):
    if _page is None:
        raise MessageError("Error: no page is open")
    result = _page(script)
    return None if ignore_result else result


def enable_custom_widget_manager():
    """Colab's page loads widgets through its own manager after this."""
    _widgets._installed_url = f"{_MANAGER}2b70e893a8ba7c0f/manager.min.js"
