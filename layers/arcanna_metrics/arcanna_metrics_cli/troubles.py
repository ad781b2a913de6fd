"""Explains errors of AWS, the network and files, and says what to type."""

from arcanna_metrics.errors import AwsUnavailable, BadInput, ConfigurationError
from arcanna_metrics_cli.exits import Exit, Trouble

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_REFUSED = {
    "AuthFailure",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "InvalidToken",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation", "403"}
_MISSING = {
    "404",
    "AWS.SimpleQueueService.NonExistentQueue",
    "NotFound",
    "ParameterNotFound",
    "ResourceNotFoundException",
    "StateMachineDoesNotExist",
}
_WHO = "aws sts get-caller-identity shows whose credentials are in use; --profile NAME uses others"


def explained(error: Exception, profile: str | None = None) -> Trouble:
    """The Trouble that explains an error. `profile` is the one that was given with --profile."""
    if isinstance(error, Trouble):
        return error
    if isinstance(error, ConfigurationError):
        said = "\n  ".join(["The settings are not valid:", *error.problems])
        return Trouble(Exit.WRONG, said, "Correct them; arcanna-metrics settings validate FILE checks a file")
    if isinstance(error, AwsUnavailable) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if trouble := _by_code(error, profile) or _by_kind(error, profile):
        return trouble
    # Errors of files. Some of botocore's errors are OSErrors, too, and are explained above.
    if isinstance(error, OSError) and error.filename and error.strerror:
        return Trouble(Exit.USAGE, f"{error.filename}: {error.strerror}.")
    mistyped = isinstance(error, OSError | UnicodeError | BadInput)
    return Trouble(Exit.USAGE if mistyped else Exit.NO_ACCESS, str(error))


def is_missing(error: Exception) -> bool:
    """Whether AWS says that the resource does not exist."""
    return _code(error) in _MISSING


def _code(error: Exception) -> str:
    """The code of botocore's ClientError; empty for other errors."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _by_code(error: Exception, profile: str | None) -> Trouble | None:
    """Explains botocore's ClientError by its code; None if the code is another one."""
    code = _code(error)
    if code in _EXPIRED:
        return Trouble(Exit.NO_ACCESS, "The AWS credentials have expired.", _sign_in(profile))
    if code in _REFUSED:
        return Trouble(Exit.NO_ACCESS, f"AWS refuses the credentials: {error}", _WHO)
    if code in _DENIED:
        return Trouble(Exit.NO_ACCESS, f"The AWS credentials may not do this: {error}", _WHO)
    if is_missing(error):
        todo = "arcanna-metrics doctor shows more, such as that the stack is being deleted"
        return Trouble(Exit.NO_ACCESS, f"A part of the stack is missing: {error}", todo)
    return None


def _by_kind(error: Exception, profile: str | None) -> Trouble | None:
    """Explains an exception of botocore by its name, because importing botocore takes long; else None."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"NoCredentialsError", "PartialCredentialsError"}:
        return Trouble(Exit.NO_ACCESS, "There are no AWS credentials.", _sign_in(profile))
    if kinds & {"ProfileNotFound"}:
        todo = "aws configure list-profiles lists the profiles; --profile NAME or AWS_PROFILE chooses one"
        return Trouble(Exit.NO_ACCESS, f"{error}.", todo)
    if kinds & {"NoRegionError", "InvalidRegionError"}:
        return Trouble(Exit.NO_ACCESS, f"{error}", "Add --region eu-west-1, or set AWS_REGION")
    if any(word in kind for kind in kinds for word in ("Token", "SSO", "Login", "CredentialRetrieval")):
        return Trouble(Exit.NO_ACCESS, f"The AWS credentials cannot be used: {error}", _sign_in(profile))
    if kinds & {"SSLError"}:
        todo = "Set AWS_CA_BUNDLE to a file with the CA that signs here, such as your company's proxy's"
        return Trouble(Exit.NO_ACCESS, f"AWS cannot be reached: {error}", todo)
    if kinds & {"HTTPClientError", "ConnectionError", "EndpointConnectionError"}:
        todo = "Check the network and --region. Behind a proxy, set HTTPS_PROXY"
        return Trouble(Exit.NO_ACCESS, f"AWS cannot be reached: {error}", todo)
    return None


def _sign_in(profile: str | None) -> str:
    named = f" --profile {profile}" if profile else ""
    return f"Type aws sso login{named}, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or --profile NAME"
