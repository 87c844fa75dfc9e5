"""The corpus: every group by its name."""

from __future__ import annotations

from tests.hostile.case import Case
from tests.hostile.corpus import bodies, framing, lines, options, sequences, syntax, targets

GROUPS: dict[str, list[Case]] = {
    "two framings": framing.TWO_FRAMINGS,
    "lengths": framing.LENGTHS,
    "codings": framing.CODINGS,
    "chunks": bodies.CHUNKS,
    "trailers": bodies.TRAILERS,
    "cut short": bodies.CUT_SHORT,
    "request lines": lines.REQUEST_LINES,
    "versions": lines.VERSIONS,
    "methods": lines.METHODS,
    "header syntax": syntax.HEADERS,
    "line ends": syntax.LINE_ENDS,
    "hosts": syntax.HOSTS,
    "sizes": syntax.SIZES,
    "targets": targets.TARGETS,
    "names": targets.NAMES,
    "options": options.OPTIONS,
    "hop by hop": options.HOP_BY_HOP,
    "expectations": sequences.EXPECTATIONS,
    "pipelines": sequences.PIPELINES,
    "endings": sequences.ENDINGS,
}
