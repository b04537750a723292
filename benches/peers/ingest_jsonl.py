"""Read a JSON lines file, drop exact duplicates, write Parquet: polars and pandas as peers of `ingest`.

They do less than ours: no scrubbing of personal data, no rejects, no row ids, no split, no report.

usage: ingest_jsonl.py polars|pandas SOURCE.jsonl OUT.parquet
"""

import sys

peer, source, out = sys.argv[1:]
if peer == "polars":
    import polars as pl

    rows = pl.scan_ndjson(source).select("text", "label").unique(maintain_order=True)
    rows.sink_parquet(out, compression="zstd", compression_level=1)
else:
    import pandas as pd

    rows = pd.read_json(source, lines=True)[["text", "label"]].drop_duplicates()
    rows.to_parquet(out, index=False, compression="zstd", compression_level=1)
