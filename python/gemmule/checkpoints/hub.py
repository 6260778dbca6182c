"""Checkpoints by the name of their repository on the Hugging Face hub, through huggingface_hub and its cache."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any
from urllib.parse import urlsplit

from tqdm.auto import tqdm

from .. import arguments, paths
from ..errors import (
    AccessError,
    ArgumentError,
    GemmuleError,
    MissingFileError,
    NetworkError,
    ResourceError,
    UnsupportedError,
)
from ..printable import some
from ..progress import is_shown
from . import hub_record
from .checkpoint import DEMO, TEXT_FILES
from .hub_record import Known

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_NAME = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::(?P<file>[^:\\]+))?")
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True)
class Request:
    """What is asked for. file: one .gguf file of the repository, or None."""

    repository: str
    file: str | None
    revision: str | None
    token: str | bool | None
    cache_dir: Path | None

    @property
    def spelled(self) -> str:
        """The command that downloads it."""
        whole = self.repository + (f":{self.file}" if self.file else "")
        return f"gemmule pull {whole}" + (f" --revision {self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Found:
    """A checkpoint in the cache: the snapshot's folder, the files of it that text needs, and what to load: the folder
    or the GGUF file in it."""

    snapshot: Path
    names: list[str]
    path: Path


@dataclass(frozen=True)
class Listing:
    """A repository's files at one commit: name -> size in bytes; hashes of those that have one."""

    commit: str
    sizes: dict[str, int]
    hashes: dict[str, Known]


def locate(
    path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> str | os.PathLike[str]:
    """`path` itself, unless it names a repository: then its checkpoint in the cache, downloaded if need be.

    What lies in the file system wins over a repository of the same name. Errors are those of `pull`.
    """
    arguments.flag("local_files_only", local_files_only)
    if not _is_name(path):
        return path
    return pull(str(path), revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only)


def pulled(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """`path` itself, unless it names a repository: then its checkpoint in the cache, as it is, hashes unchecked.

    For those who look at files without running them. Raises MissingFileError where the cache does not have it.
    """
    if not _is_name(path):
        return path
    request = _request(str(path))
    found = _from_cache(request)
    if found is None:
        raise _missing_from_cache(request, "looking at a checkpoint does not download it")
    return found.path


def pull(
    name: str,
    *,
    file: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    progress: bool = True,
) -> Path:
    """Downloads what text needs of a repository, unless the cache has it, and checks every hash that the hub knows.

    Without a network, what the cache holds is used.

    Args:
        name: "org/name", or "org/name:file.gguf" for one file of a repository that has several.
        file: the same, apart from the name.
        revision: a branch, tag or commit; None: the main branch.
        token: of the hub; None: the one that `hf auth login` stored, or HF_TOKEN.
        cache_dir: None: huggingface_hub's own, which other programs share.
        local_files_only: look into the cache only.
        progress: show a bar, on a terminal.

    Returns:
        The checkpoint's folder in the cache, or the GGUF file in it: the first, of a split one.

    Raises:
        MissingFileError: no such repository, revision or file; or nothing in the cache, and the network is not asked.
        AccessError: the repository's terms were not accepted, or the token is not good for it.
        NetworkError: the hub cannot be reached, and the cache does not have it.
        ResourceError: too little room on the disk.
        FormatError: a file's hash is not the one that the hub says.
        UnsupportedError: a repository without weights that gemmule reads.
        ArgumentError: no name of a repository; or it has several GGUF files, and none was chosen.
    """
    request = _request(name, file, revision, token, cache_dir)
    arguments.flag("local_files_only", local_files_only)
    arguments.flag("progress", progress)
    from huggingface_hub import constants  # here, because it takes a tenth of a second that local checkpoints need not

    if local_files_only or constants.HF_HUB_OFFLINE:
        found = _from_cache(request)
        if found is None:
            why = "local_files_only=True" if local_files_only else "HF_HUB_OFFLINE"
            raise _missing_from_cache(request, f"{why} forbids to ask the hub")
        return _checked(found, {}, progress)
    try:
        listing = _list(request)
    except (AccessError, NetworkError):
        found = _from_cache(request)
        if found is None:
            raise
        return _checked(found, {}, progress)
    return _download(request, listing, progress)


def _is_name(path: str | os.PathLike[str]) -> bool:
    """Whether `path` means a repository: what lies in the file system does not."""
    if not isinstance(path, str) or path == DEMO or not _NAME.fullmatch(path):
        return False
    if path.endswith(".gguf") and ":" not in path:  # a file that is missing
        return False
    try:
        return not Path(path).exists()
    except OSError:  # too long a name
        return False


def _request(
    name: str,
    file: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Request:
    matched = _NAME.fullmatch(name) if isinstance(name, str) else None
    if not matched:
        found = arguments.shown(name)
        raise ArgumentError(
            f"{found} is no repository's name", remedy='Write "org/name" or "org/name:file.gguf".', found=found
        )
    if file is not None:
        arguments.string("file", file)
    # As a whole path: huggingface_hub would take a folder named "~x" for a home.
    folder = None if cache_dir is None else arguments.path("cache_dir", cache_dir).absolute()
    if revision is not None:
        arguments.string("revision", revision)
    if not isinstance(token, (str, bool, NoneType)):
        raise arguments.refused("token", type(token).__name__, "a string, True, False or None")
    return Request(matched["repository"], file or matched["file"], revision, token, folder)


def _list(request: Request) -> Listing:
    from huggingface_hub import HfApi

    _check_address(request)
    with _translated(request):
        info = HfApi().model_info(
            request.repository, revision=request.revision, token=request.token, files_metadata=True
        )
    files = info.siblings or []
    return Listing(
        commit=info.sha or "",
        sizes={each.rfilename: each.size or 0 for each in files},
        hashes={each.rfilename: Known(each.lfs.sha256, each.lfs.size) for each in files if each.lfs is not None},
    )


def _check_address(request: Request) -> None:
    """Raises NetworkError where HF_ENDPOINT says no address; huggingface_hub fails at it in ways of its own."""
    from huggingface_hub import constants

    with contextlib.suppress(ValueError):
        address = urlsplit(constants.ENDPOINT)
        if address.scheme in ("http", "https") and address.hostname:
            return
    raise NetworkError(
        f"{request.repository}: no such folder here, and HF_ENDPOINT is {constants.ENDPOINT!r}; expected an address",
        remedy="Set it to one such as https://huggingface.co, or unset it.",
        file=request.repository,
        expected="an address",
        found=constants.ENDPOINT,
    )


def _download(request: Request, listing: Listing, progress: bool) -> Path:
    names, file = _choose(request, listing.sizes)
    _check_room(request, listing, names)
    with _translated(request):
        snapshot = _snapshot(request, names, bars=is_shown(progress))
    if snapshot.name != listing.commit:  # the branch has moved on since it was listed
        listing = _list(replace(request, revision=snapshot.name))
    return _checked(Found(snapshot, names, snapshot / (file or "")), listing.hashes, progress)


def _from_cache(request: Request) -> Found | None:
    """What the cache holds, if that is all that text needs."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot = _snapshot(request, None)
    except (LocalEntryNotFoundError, FileNotFoundError):
        return None
    held = {str(file.relative_to(snapshot)) for file in snapshot.rglob("*") if paths.is_file(file)}
    try:
        names, file = _choose(request, held | hub_record.read(snapshot).keys())
    except (UnsupportedError, MissingFileError):
        return None
    return Found(snapshot, names, snapshot / (file or "")) if held.issuperset(names) else None


def _checked(found: Found, said: dict[str, Known], progress: bool) -> Path:
    hub_record.check(found.snapshot, said, found.names, progress=progress)
    return found.path


def _snapshot(request: Request, names: Iterable[str] | None, *, bars: bool = False) -> Path:
    """The folder of a snapshot with these files; None: as the cache has it, without asking the network."""
    from huggingface_hub import snapshot_download

    class Bars(tqdm):  # type: ignore[type-arg]  # huggingface_hub takes a class
        def __init__(self, *positional: Any, **named: Any) -> None:
            named.pop("name", None)  # huggingface_hub's own classes have one
            super().__init__(*positional, **{**named, "disable": not bars, "leave": False})

    return Path(
        snapshot_download(
            request.repository,
            revision=request.revision,
            token=request.token,
            cache_dir=request.cache_dir,
            local_files_only=names is None,
            # A pattern that nothing matches: the snapshot's folder is wanted, whatever it holds.
            allow_patterns=["/"] if names is None else [glob.escape(name) for name in names],
            tqdm_class=Bars,
        )
    )


def _choose(request: Request, files: Iterable[str]) -> tuple[list[str], str | None]:
    """The files to take, and the one among them that is the checkpoint (None: their folder is)."""
    top = {name for name in files if "/" not in name}
    gguf = sorted(name for name in files if name.endswith(".gguf") and "mmproj" not in name.lower())
    if request.file is not None:
        if request.file not in gguf:
            have = f"It has: {some(gguf)}." if gguf else "It has no GGUF files."
            raise MissingFileError(
                f"{request.repository}: no GGUF file {request.file}", remedy=have, file=request.file, found=str(gguf)
            )
        return _with_parts(request.file, gguf)
    text = sorted(top & set(TEXT_FILES))
    if _SINGLE in top:
        return [*text, _SINGLE], None
    if _INDEX in top:
        return [*text, _INDEX, *sorted(name for name in top if name.endswith(".safetensors"))], None
    first_parts = [name for name in gguf if not (part := _PART.search(name)) or int(part[1]) == 1]
    if len(first_parts) == 1:
        return _with_parts(first_parts[0], gguf)
    if first_parts:
        raise ArgumentError(
            f"{request.repository} has several GGUF files: {some(first_parts)}",
            remedy=f'Choose one, as in "{request.repository}:{first_parts[0]}".',
            expected="one of them",
            found="none chosen",
        )
    raise UnsupportedError(
        f"{request.repository}: neither {_SINGLE}, nor {_INDEX}, nor a GGUF file",
        remedy="Take a repository that holds safetensors or GGUF weights.",
    )


def _with_parts(file: str, gguf: list[str]) -> tuple[list[str], str]:
    """A GGUF file with the other parts of a split one."""
    part = _PART.search(file)
    if not part:
        return [file], file
    stem = file[: part.start()]
    parts = [name for name in gguf if (other := _PART.search(name)) and name[: other.start()] == stem]
    return parts, parts[0]


def _check_room(request: Request, listing: Listing, names: list[str]) -> None:
    """Refuses before a download that would fill the disk."""
    from huggingface_hub import constants, try_to_load_from_cache

    cache = Path(request.cache_dir or constants.HF_HUB_CACHE)
    missing = [
        name
        for name in names
        if not isinstance(
            try_to_load_from_cache(request.repository, name, cache_dir=cache, revision=listing.commit), str
        )
    ]
    needed = sum(listing.sizes[name] for name in missing)
    place = next(folder for folder in (cache, *cache.absolute().parents) if paths.exists(folder))
    free = shutil.disk_usage(place).free
    if needed > free:
        raise _no_room(request, cache, f"{needed} bytes are needed, {free} are free")


def _no_room(request: Request, cache: Path, found: str) -> ResourceError:
    return ResourceError(
        f"{request.repository}: the disk of {cache} is too full: {found}",
        remedy="Make room, or choose a folder on another disk with cache_dir= (--cache-dir) or HF_HOME.",
        file=str(cache),
        found=found,
    )


def _missing_from_cache(request: Request, why: str) -> MissingFileError:
    return MissingFileError(
        f"{request.repository}: no such folder, the cache does not hold this checkpoint, and {why}",
        remedy=f"Download it first: {request.spelled}",
        file=request.repository,
    )


@contextlib.contextmanager
def _translated(request: Request) -> Iterator[None]:
    """Turns what huggingface_hub raises into our errors."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # The class below HfHubHTTPError is the base of all errors of the HTTP library that huggingface_hub uses, which
    # changes from version to version; those of other libraries and of the system are OSErrors.
    library_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        yield
    except GemmuleError:
        raise
    except HFValidationError as error:
        raise ArgumentError(str(error), remedy='Write "org/name".', found=request.repository) from None
    except (library_error, OSError) as error:
        raise _translate(error, request) from error


def _translate(error: Exception, request: Request) -> GemmuleError:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why the hub did not answer
    repository, hub = request.repository, constants.ENDPOINT
    log_in = "log in with `hf auth login`, or pass token= or set HF_TOKEN"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError):
        return AccessError(
            f"{repository}: its terms must be accepted before it can be downloaded",
            remedy=f"Accept them at {hub}/{repository}, then {log_in}.",
            file=repository,
        )
    if isinstance(error, RevisionNotFoundError):
        return MissingFileError(
            f"{repository}: no revision {request.revision!r}",
            remedy=f"See {hub}/{repository} for branches, tags and commits, or leave the revision out.",
            file=repository,
            found=request.revision,
        )
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return MissingFileError(
            f"{repository}: no such folder here, and no such repository at {hub}",
            remedy=f"Check the name. If the repository is private, {log_in}.",
            file=repository,
        )
    if status in (401, 403):
        return AccessError(
            f"{repository}: {hub} refuses access (status {status})",
            remedy=f"Check that your token is valid and may read this repository: {log_in}.",
            file=repository,
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _no_room(request, Path(request.cache_dir or constants.HF_HUB_CACHE), "it ran full")
    if isinstance(error, PermissionError) and not isinstance(error, HfHubHTTPError):
        return ResourceError(
            f"{error.filename or request.cache_dir}: {error.strerror}",
            remedy="Make the cache's folder writable, or choose another one with cache_dir= (--cache-dir).",
            file=str(error.filename or request.cache_dir),
        )
    cause = " ".join(str(error).split())[:200] or type(error).__name__
    return NetworkError(
        f"{repository}: no such folder here, and {hub} does not answer: {cause}",
        remedy="Check the network and its proxy, or name a mirror with HF_ENDPOINT. What is complete is kept.",
        file=repository,
        found=cause,
    )
