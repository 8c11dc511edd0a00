"""Download of a data set's files from a web server."""

from __future__ import annotations

import concurrent.futures
import time
from urllib.parse import urlsplit

from digits.data.idx import max_bytes, unpack
from digits.errors import DataError
from digits.http import before_threads, in_words, read_whole
from digits.proxies import pool_for
from digits.tasks.task import Source

MAX_OVERHEAD = 1024  # bytes by which a compressed file may exceed its content
SECONDS, BYTES_PER_SECOND = 60.0, 1_000_000  # of a download; a file of more than 60 MB has more time
MAX_DOWNLOAD = 2 << 30  # bytes of a file, which is kept in memory
PROBE_SECONDS = 8.0


def download(source: Source, file: str, base: str, *, seconds: float = 0, retries: int = 2) -> bytes:
    """Return the verified content of `file` from `base`, the address of its folder or its own.

    The four files of the format idx are compressed: `base/file.gz`. It takes at most `seconds`, or as long as the
    file's size allows if that is 0; a failed request is repeated at most `retries` times, and one whose response broke
    off or is damaged once, unless `retries` is 0.

    Raises:
        DataError: the server did not send that file; states the reason.
        OSError: the response was too slow or too large.
    """
    from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError

    if (size := max_bytes(source, file)) > MAX_DOWNLOAD:
        raise DataError(f"{file}: expected at most {MAX_DOWNLOAD} bytes for a download, got {size}")
    parts = urlsplit(base)  # its query, such as a signature, stays at the end
    seconds = seconds or max(SECONDS, size / BYTES_PER_SECOND)
    url, name = base, f"{file}.gz" if source.format == "idx" else file
    if parts.path.rpartition("/")[2] != name:
        url = parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl()
    until = time.monotonic() + seconds
    again = retries > 0
    while True:
        try:
            return unpack(source, file, _request(url, until, size + MAX_OVERHEAD, retries), url)
        except (HTTPError, DataError) as exc:
            # DataError: a response without a length that broke off is content that is cut.
            if not again or not isinstance(exc, ProtocolError | ReadTimeoutError | DataError):
                raise exc if isinstance(exc, DataError) else DataError(in_words(exc)) from exc
            again = False


def _request(url: str, until: float, max_bytes: int, retries: int) -> bytes:
    """Return the body at `url`. Raises HTTPError as `read_blocks`, and if the status is not 200."""
    import urllib3

    from digits.answers import within

    seconds = max(0.001, until - time.monotonic())
    with within(seconds):  # all attempts, redirects and heads; urllib3 limits each read
        response = pool_for(url).request(
            "GET",
            url,
            preload_content=False,
            # urllib3 would wait for six hours if the server asks for it.
            retries=urllib3.Retry(retries, redirect=3, backoff_factor=0.2, retry_after_max=min(5, int(seconds)))
            if retries
            else False,
            timeout=urllib3.Timeout(connect=min(3.0, seconds), read=min(10.0, seconds)),
        )
    try:
        if response.status != 200:
            raise urllib3.exceptions.HTTPError(f"HTTP {response.status}")
        return read_whole(response, until, max_bytes)
    finally:
        response.release_conn()


def find_mirror(source: Source) -> str:
    """Return the first mirror that serves the smallest file within PROBE_SECONDS, or '' if none does."""
    smallest = min(source.files, key=lambda file: source.files[file].bytes)
    before_threads("urllib3")
    pool = concurrent.futures.ThreadPoolExecutor(len(source.mirrors))
    try:
        probes = {
            pool.submit(download, source, smallest, base, seconds=PROBE_SECONDS - 1, retries=0): base
            for base in source.mirrors
        }
        for probe in concurrent.futures.as_completed(probes, timeout=PROBE_SECONDS):
            if probe.exception() is None:
                return probes[probe]
    except TimeoutError:
        pass
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return ""
