"""The one exception that users are meant to read."""


class MultishiftError(Exception):
    """A fault the user can mend: one line that names the thing at fault and the mend.

    The command line prints it and exits with 1; the node logs it and refuses the transition.
    Anything else that escapes is a defect of ours and keeps its traceback.
    """
