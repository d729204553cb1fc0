"""What /metrics says, in Prometheus's text format."""

import bisect
import resource
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Histogram:
    """Counts of values up to each of some bounds, and their sum."""

    def __init__(self, bounds: tuple[float, ...]):
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, label: str = "") -> list[str]:
        """``label`` is ``path="/predict",`` or nothing."""
        total, lines = 0, []
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{{label}le="{bound}"}} {total}')
        labels = f"{{{label.rstrip(',')}}}" if label else ""
        return [*lines, f"{name}_sum{labels} {self._sum:.6f}", f"{name}_count{labels} {total}"]


class Counters:
    """Requests by path and status, their seconds, sizes of batches, and whatever is asked for when it is read.

    Attributes:
        batches: sizes of batches.
        live: frames observed, predictions sent and predictions left out of live connections, by these names.
        gauges: name -> a function that says its value now.
    """

    def __init__(self):
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, Histogram] = {}
        self.batches = Histogram(SIZES)
        self.live: Counter[str] = Counter(dict.fromkeys(("observed", "predicted", "left_out"), 0))
        self.gauges: dict[str, Callable[[], float]] = {"process_resident_memory_bytes": resident_bytes}

    def request(self, path: str, status: int, seconds: float) -> None:
        self._requests[path, status] += 1
        self._seconds.setdefault(path, Histogram(SECONDS)).add(seconds)

    def text(self) -> str:
        """Everything."""
        lines = ["# TYPE htsr_requests_total counter"]
        lines += [f'htsr_requests_total{{path="{p}",code="{c}"}} {n}' for (p, c), n in sorted(self._requests.items())]
        errors: Counter[int] = Counter()
        for (_, code), count in self._requests.items():
            errors[code] += count * (code >= 400)
        lines.append("# TYPE htsr_errors_total counter")
        lines += [f'htsr_errors_total{{code="{code}"}} {count}' for code, count in sorted(errors.items()) if count]
        lines.append("# TYPE htsr_request_seconds histogram")
        for path, histogram in sorted(self._seconds.items()):
            lines += histogram.lines("htsr_request_seconds", f'path="{path}",')
        lines += ["# TYPE htsr_batch_size histogram", *self.batches.lines("htsr_batch_size")]
        for name, count in self.live.items():
            lines += [f"# TYPE htsr_live_{name}_total counter", f"htsr_live_{name}_total {count}"]
        for name, value in self.gauges.items():
            lines += [f"# TYPE {name} gauge", f"{name} {value()}"]
        return "\n".join(lines) + "\n"


def resident_bytes() -> float:
    """Memory of this process now; where the system does not say so, the most it ever was."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
