"""Read a CSV file, drop exact duplicates, write Parquet: pandas as the peer of `ingest`.

It does less than ours: no scrubbing of personal data, no row ids, no split, no report.

usage: ingest.py SOURCE.csv OUT.parquet
"""

import json
import sys
import time

import pandas as pd
import pyarrow  # noqa: F401 (what to_parquet writes with, imported here so that the clock does not see it)

source, out = sys.argv[1:]
start = time.perf_counter()
rows = pd.read_csv(source, encoding="mac_roman", usecols=["text", "sentiment"]).dropna()
rows = rows.drop_duplicates().rename(columns={"sentiment": "label"})
rows.to_parquet(out, index=False)
seconds = time.perf_counter() - start
print(json.dumps({"peer": "pandas, without scrubbing", "rows": len(rows), "seconds": seconds}))
