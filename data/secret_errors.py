"""What may be wrong with secrets, wherever they are kept."""


class SecretsUnreadable(Exception):
    """Secrets cannot be read, written or understood; the message says what to do."""


class SecretsUnavailable(Exception):
    """Secrets cannot be had now; trying again later may help."""


class SecretMissing(Exception):
    """There is no secret of this name; the message says how to set one."""


class Undecipherable(Exception):
    """The text is damaged, was written for another context, or its key is gone."""
