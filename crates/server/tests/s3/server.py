"""An S3 server for tests. It is moto, which takes every signature; those in addresses are checked here before, with the
signing of botocore, Amazon's own client.

Tells its port, and ends when its input does. Headers and addresses of its own:
- `x-test-later: SECONDS` has a signed address looked at as if it were that much later.
- A GET for an object called `held.wav` is answered after a POST to `/release/BUCKET`.
"""

import sys
import threading
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from urllib.parse import unquote

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

KEY, SECRET, REGION = sys.argv[1:]
HOLD_LIMIT_SECONDS = 60


def fault(environ):
    """Why a signed address is no good; None when it is, or is not signed."""
    path, _, query = environ["REQUEST_URI"].partition("?")
    fields = dict(field.partition("=")[::2] for field in query.split("&"))
    if "X-Amz-Signature" not in fields:
        return None
    signature = fields.pop("X-Amz-Signature")
    signed_at = datetime.strptime(fields["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    later = timedelta(seconds=int(environ.get("HTTP_X_TEST_LATER", 0)))
    if datetime.now(timezone.utc) + later > signed_at + timedelta(seconds=int(fields["X-Amz-Expires"])):
        return "Request has expired"
    rest = "&".join(f"{name}={value}" for name, value in fields.items())
    request = AWSRequest(environ["REQUEST_METHOD"], f"http://{environ['HTTP_HOST']}{path}?{rest}")
    request.context["timestamp"] = fields["X-Amz-Date"]
    auth = S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", REGION)
    expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    if signature != expected or unquote(fields["X-Amz-Credential"]).split("/")[0] != KEY:
        return "SignatureDoesNotMatch"
    return None


class Guard:
    def __init__(self):
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.released = defaultdict(threading.Event)

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path.startswith("/release/"):
            self.released[path.removeprefix("/release/")].set()
            start_response("200 OK", [])
            return [b""]
        reason = fault(environ)
        if reason is not None:
            start_response("403 Forbidden", [("content-type", "text/plain")])
            return [reason.encode()]
        if environ["REQUEST_METHOD"] == "GET" and path.endswith("/held.wav"):
            self.released[path.split("/")[1]].wait(HOLD_LIMIT_SECONDS)
        return self.moto(environ, start_response)


class Quiet(WSGIRequestHandler):
    # Keeps connections open for clients that reuse them, like S3.
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


server = make_server("127.0.0.1", 0, Guard(), threaded=True, request_handler=Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.port, flush=True)
sys.stdin.read()
