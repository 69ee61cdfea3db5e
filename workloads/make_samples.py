#!/usr/bin/env python3
"""Writes the samples in this folder from the two public traces named in README.md.

    python3 workloads/make_samples.py AzureLLMInferenceTrace_conv.csv arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv

Rows are taken at a fixed stride, so that anyone gets the same ones. The prompts of batch_100.jsonl are written here, not
taken from anywhere; only their lengths follow the Azure trace.
"""

import csv
import json
import random
import sys

azure_path, arxiv_path = sys.argv[1:]
with open(azure_path, newline="") as file:
    azure = list(csv.DictReader(file))
with open(arxiv_path, newline="") as file:
    arxiv = list(csv.DictReader(file))


def write(path, header, rows):
    with open(path, "w", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)


# Every 19th request, the first 1,000 of those, under the header of the trace.
header = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
write("workloads/azure_chat_1k.csv", header, [[row[name] for name in header] for row in azure[::19][:1000]])

# Every 56th request, the first 500 of those, in our own columns.
write(
    "workloads/arxiv_summarization_500.csv",
    ["request_id", "input_tokens", "output_tokens"],
    [
        [f"arxiv-{1 + 56 * n:05}", row["num_prefill_tokens"], row["num_decode_tokens"]]
        for n, row in enumerate(arxiv[::56][:500])
    ],
)

# The whole trace as classes: boxes that double every two steps in each length, at the mean lengths of their members.
boxes = {}


def box(tokens):
    step = 0
    while round(2 ** ((step + 1) / 2)) <= tokens:
        step += 1
    return step


for row in azure:
    i, o = int(row["ContextTokens"]), int(row["GeneratedTokens"])
    boxes.setdefault((box(i), box(o)), []).append((i, o))
write(
    "workloads/azure_chat_classes.csv",
    ["input_tokens", "output_tokens", "count"],
    [
        [round(sum(i for i, _ in members) / len(members)), round(sum(o for _, o in members) / len(members)), len(members)]
        for _, members in sorted(boxes.items())
    ],
)

# 100 prompts of our own. A report of the shape below is composed until it is about as long as every 193rd request of the
# trace (4 characters a token, at most 1,024 tokens); max_tokens is that request's output.
ASK = [
    "Summarise the following operations log for the morning meeting. Name the three events that matter most and say why.",
    "Rewrite the notes below as a letter to the tenants of the building. Keep every date and number.",
    "List all quantities in the text below as a table with the columns item, value and unit.",
    "Read the maintenance diary below and say which machine should be serviced first, with your reasons.",
    "Translate the report below into plain language for readers without technical training.",
    "From the entries below, work out how the electricity use of the hall changed over the week.",
    "Draft five questions that an auditor would ask after reading these entries, and answer each from the text.",
    "Explain to a new colleague what happened here, in the order in which it happened.",
]
WHO = ["The night shift", "The pump crew", "A visitor", "The cooling contractor", "The grid operator", "Our trainee",
       "The roof inspection", "The greenhouse team", "The archive", "The ferry office"]
DID = ["reported that", "noted that", "found out that", "wrote in the book that", "called to say that", "confirmed that"]
WHAT = [
    "chiller {a} ran for {b} minutes at {c} percent of its load",
    "the water in tank {a} stood {c} centimetres below the mark",
    "rack {a} in row {b} drew {c} watts more than the day before",
    "the wind took {c} shingles off roof {a}, and {b} were replaced",
    "batch {a} finished {b} minutes early although {c} jobs were still queued",
    "the temperature near door {a} fell to {b} degrees within {c} minutes",
    "order {a} for {b} fuses arrived with {c} pieces missing",
    "meter {a} showed {b} kilowatt hours, {c} fewer than the bill",
    "lamp {a} on platform {b} flickered {c} times before it went out",
    "the seedlings in bed {a} had grown {b} millimetres since day {c}",
    "the café on deck {a} sold {b} cups of tea and {c} sandwiches",
]
THEN = ["", "", " Nobody could say why.", " It was put right the same day.", " A second look is planned for Thursday.",
        " The old procedure says to wait, and so we did.", " The naïve remedy made it worse.",
        " This had happened once before, in spring."]

draw = random.Random(20240711)
with open("workloads/batch_100.jsonl", "w") as out:
    for n, row in enumerate(azure[::193][:100]):
        characters = 4 * min(int(row["ContextTokens"]), 1024)
        text = draw.choice(ASK)
        hour = 0
        while len(text) < characters:
            hour += draw.randint(7, 95)
            what = draw.choice(WHAT).format(a=draw.randint(1, 40), b=draw.randint(2, 59), c=draw.randint(2, 400))
            stamp = f"Day {1 + hour // 1440}, {hour // 60 % 24:02}:{hour % 60:02}"
            text += f"\n{stamp}: {draw.choice(WHO)} {draw.choice(DID)} {what}.{draw.choice(THEN)}"
        request = {
            "custom_id": f"log-{n + 1:03}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "meta-llama/Llama-3.1-8B-Instruct",
                "messages": [{"role": "user", "content": text}],
                "max_tokens": int(row["GeneratedTokens"]),
            },
        }
        out.write(json.dumps(request, ensure_ascii=False) + "\n")
