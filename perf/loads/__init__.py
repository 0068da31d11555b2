"""The loads, one small file each; the list lets a generator process be told which one to run."""

from perf.loads.bulk import Download, Upload
from perf.loads.churn import Churn
from perf.loads.closed import Closed
from perf.loads.fresh import Fresh
from perf.loads.load import Load
from perf.loads.open import Open
from perf.loads.raw import PingPong, RawDownload, RawUpload
from perf.loads.victim import Victim
from perf.loads.websocket import Echo
from perf.loads.wrk import Wrk

AnyLoad = Closed | Open | Churn | Fresh | Download | Upload | RawDownload | RawUpload | PingPong | Echo | Victim | Wrk

__all__ = ["AnyLoad", "Load"]
