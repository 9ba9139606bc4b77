"""The answers that s3fs reads whole, bounded: the text of an error, and lists.

aiobotocore reads an error's body into memory whatever its size; a store, or a proxy before it,
that answers with gigabytes would end the process.
"""

import aiohttp
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.httpsession import AIOHTTPSession
from botocore.awsrequest import AWSPreparedRequest

MAX_ERROR_BYTES = 1 << 20
MAX_ANSWER_BYTES = 64 << 20  # a list of 1000 objects has less than one
FIRST_ERROR_STATUS = 300


class BoundedSession(AIOHTTPSession):
    """Sends the requests of s3fs; what it reads whole has a bound, what is streamed is the
    reader's.
    """

    async def send(self, request: AWSPreparedRequest) -> AioAWSResponse:
        streamed, request.stream_output = request.stream_output, True
        response = await super().send(request)
        failed = response.status_code >= FIRST_ERROR_STATUS
        if failed or not streamed:
            bounded = _Bounded(response.raw, MAX_ERROR_BYTES if failed else MAX_ANSWER_BYTES)
            response = AioAWSResponse(
                response.url, response.status_code, response.headers, bounded
            )
            await response.content
        return response


class _Bounded:
    """The body of an answer, for one `read`."""

    def __init__(self, response: aiohttp.ClientResponse, max_bytes: int) -> None:
        self._response, self._max_bytes = response, max_bytes

    async def read(self) -> bytes:
        body = bytearray()
        try:
            async for piece in self._response.content.iter_any():
                body += piece
                if len(body) > self._max_bytes:
                    status = self._response.status
                    raise OSError(f"answer {status} has more than {self._max_bytes} bytes")
        except BaseException:
            self._response.close()
            raise
        self._response.release()
        return bytes(body)
