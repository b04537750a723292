"""Scan the texts of a JSON lines file with Presidio's pattern recognizers, without its language model.

usage: presidio_patterns.py SOURCE.jsonl
"""

import json
import sys

from presidio_analyzer.predefined_recognizers import (
    CreditCardRecognizer,
    EmailRecognizer,
    IbanRecognizer,
    IpRecognizer,
    PhoneRecognizer,
    UrlRecognizer,
    UsSsnRecognizer,
)

kinds = [CreditCardRecognizer, EmailRecognizer, IbanRecognizer, IpRecognizer, PhoneRecognizer, UrlRecognizer, UsSsnRecognizer]
recognizers = [kind() for kind in kinds]
found = 0
with open(sys.argv[1], encoding="utf-8") as lines:
    for line in lines:
        text = json.loads(line)["text"]
        for recognizer in recognizers:
            found += len(recognizer.analyze(text, recognizer.supported_entities))
print(json.dumps({"peer": "presidio", "found": found}))
