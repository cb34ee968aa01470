"""Every error of this program, in one tree. Each message names the thing and the way out.

TempoError
├── UsageError            a wrong argument: the command line exits with 2
│   └── BudgetError       a token budget or context that cannot hold what was asked
├── CheckpointError       a checkpoint that is missing, incomplete or not of the published layout
│   ├── NotFetched        a model of the hub that is not on this machine, and that nobody asked to fetch
│   └── GpuLost           CUDA failed: this process can compute nothing any more, a new one may
├── ProgramError          a program that this one needs is missing or does not run: no video is the cause
├── NotFinite             the model computed numbers that are not finite for one input
├── RemoteReaderError     the server that is to answer refuses, fails, or sends what is no answer
├── QueueFull             so many questions wait for the model that no more are taken: ask again later
├── EngineClosed          the engine was closed before the answer was complete
├── SourceError           a source that cannot be read: missing, not permitted, S3 failing
│   └── SourceChanged     a source that was written to while it was read: it waits for the next run
├── VideoError            a file that is not a usable video: becomes an index failure
│   ├── DecodeTimeout     the decoder did not finish before its deadline
│   └── DecoderDied       the process that read a video was killed, crashed or could not be started
├── WorkerDied            the process of an encoder was killed or crashed
└── LibraryError          the library itself
    ├── LibraryNotFound   no library at that location
    ├── SchemaError       written by a newer schema, or its manifest is damaged
    │   └── LibraryOutdated   written by an older schema: a migration is due
    ├── LibraryBusy       another writer holds the lease
    ├── CorruptPart       a part file that does not match its checksum
    └── NoSpace           the disk is full, or would be
"""

from __future__ import annotations


class TempoError(Exception):
    """Base of all errors that are shown to a user as one line, without a traceback."""


class UsageError(TempoError):
    """An argument that the caller gave is wrong."""


class BudgetError(UsageError):
    """The token budget, or the LLM's context, cannot hold what was asked."""


class CheckpointError(TempoError):
    """The checkpoint cannot be loaded; the message names the file or tensor."""


class NotFetched(CheckpointError):
    """The checkpoint is one of the hub and not on this machine, and it may not be fetched unasked."""

    def __init__(self, hub_id: str) -> None:
        super().__init__(f"{hub_id} is not on this machine, and is not fetched from the hub unasked")
        self.hub_id = hub_id


class GpuLost(CheckpointError):
    """CUDA failed, and fails from now on whatever it is asked: no video is the cause, and a new process may go on."""


class ProgramError(TempoError):
    """A program that this one needs is missing or does not run: whatever it was to read is not the cause."""


class NotFinite(TempoError):
    """The model computed infinities or NaNs for one input; other inputs may be fine."""


class RemoteReaderError(TempoError):
    """The server that was named to answer does not; the message names it and what to do."""


class QueueFull(TempoError):
    """So many questions wait already that no more are taken; the same question may be asked again later."""


class EngineClosed(TempoError):
    """The engine was closed, or its thread ended, before the answer was complete."""


class SourceError(TempoError):
    """The source cannot be read; the message names its URI."""


class SourceChanged(SourceError):
    """The source was written to while it was read: it is not broken, and waits for the next run."""


class VideoError(TempoError):
    """The file is not a usable video; ``str(error)`` is the reason that is recorded."""


class DecodeTimeout(VideoError):
    """The decoder did not finish before its deadline and was killed."""


class DecoderDied(VideoError):
    """The process that read a video was killed, crashed or could not be started: perhaps the file is not the cause."""


class WorkerDied(TempoError):
    """The process of a worker is gone, and with it every video that it was working on."""


class LibraryError(TempoError):
    """The library cannot do what was asked."""


class LibraryNotFound(LibraryError):
    """There is no library at that location."""


class SchemaError(LibraryError):
    """The library has a schema that this program does not know."""


class LibraryOutdated(SchemaError):
    """The library has an older schema; `tempo index` brings it up to date."""


class LibraryBusy(LibraryError):
    """Another writer holds the library's lease."""


class CorruptPart(LibraryError):
    """A part file does not match the checksum in the catalog."""


class NoSpace(LibraryError):
    """The disk is full, or would be before the end."""
