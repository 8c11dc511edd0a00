"""Download of a data set's files from a web server."""

from __future__ import annotations

import concurrent.futures
import time
from urllib.parse import urlsplit

from digits.data.catalog import Source
from digits.data.idx import unpack
from digits.errors import DataError
from digits.http import in_words, read_whole
from digits.proxies import pool_for

MAX_OVERHEAD = 1024  # bytes by which a compressed file may exceed its content
PROBE_SECONDS = 8.0


def download(source: Source, file: str, base: str, *, seconds: float = 60.0, retries: int = 2) -> bytes:
    """Return the verified content of `file`, from the gzip file at `base/file.gz`.

    The response is read for at most `seconds`; a failed request is repeated at most `retries` times.

    Raises:
        DataError: the server did not send that file; states the reason.
        OSError: the response was too slow or too large.
    """
    import urllib3

    parts = urlsplit(base)  # its query, such as a signature, stays at the end
    url = parts._replace(path=f"{parts.path.rstrip('/')}/{file}.gz").geturl()
    try:
        response = pool_for(url).request(
            "GET",
            url,
            preload_content=False,
            retries=urllib3.Retry(total=retries, redirect=3, backoff_factor=0.2) if retries else False,
            timeout=urllib3.Timeout(connect=min(3.0, seconds), read=min(10.0, seconds)),
        )
        try:
            if response.status != 200:
                raise DataError(f"HTTP {response.status}")
            raw = read_whole(response, time.monotonic() + seconds, source.files[file][1] + MAX_OVERHEAD)
        finally:
            response.release_conn()
    except urllib3.exceptions.HTTPError as exc:
        raise DataError(in_words(exc)) from exc
    return unpack(source, file, raw, url)


def find_mirror(source: Source) -> str:
    """Return the first mirror that serves the smallest file within PROBE_SECONDS, or '' if none does."""
    smallest = min(source.files, key=lambda file: source.files[file][1])
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
