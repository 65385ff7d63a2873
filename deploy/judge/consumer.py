#!/usr/bin/env python3
"""Reads an events topic as any consumer would, and judges it against the API's own history.

This is the twin of internal/judge, written a second time from the same rules (DESIGN, tests) and on other people's
libraries: librdkafka through confluent-kafka, and fastavro. Both are held against internal/judge/testdata/cases.json.

    consumer.py --brokers 127.0.0.1:9092 --topic demo.salesloft.people \\
        --history 'http://127.0.0.1:8080/_simulator/history?resource=people' --exclude updated_at,counts

It reads every partition from the beginning to its end, read-committed, and prints what it finds wrong, and last

    events=N missing=N duplicate=N out_of_order=N wrong=N

It exits 1 if one of the last four is not zero, and 2 if it could not read or understand.
"""

import argparse
import datetime
import decimal
import hashlib
import io
import json
import struct
import sys
import time
import urllib.request

GONE = b""  # the content of a record that is not there


class Unusable(Exception):
    """What was to be read cannot be read or makes no sense: no verdict."""


# --- contents: equal values under the rules, whatever their spelling ------------------------------------------------


def load(text):
    """Parses JSON without losing a digit."""
    return json.loads(text, parse_float=decimal.Decimal, parse_int=decimal.Decimal)


def number(value):
    """The exact decimal value of a number as a text: 1, 1.0 and 10e-1 are one, 2^53 and 2^53+1 are two."""
    sign, digits, exponent = decimal.Decimal(value).as_tuple()
    if not isinstance(exponent, int):
        raise Unusable(f"{value} is no number of JSON")
    digits = list(digits)
    while digits and digits[-1] == 0:
        digits.pop()
        exponent += 1
    while digits and digits[0] == 0:
        digits.pop(0)
    if not digits:
        return "0"
    return ("-" if sign else "") + "".join(map(str, digits)) + "e" + str(exponent)


def canonical(value, nulls_are_absent):
    """A text that is equal for equal values."""
    if value is None or value is True or value is False:
        return json.dumps(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float):
        return number(repr(value))
    if isinstance(value, (int, decimal.Decimal)):
        return number(value)
    if isinstance(value, list):
        return "[" + ",".join(canonical(v, nulls_are_absent) for v in value) + "]"
    members = sorted((k, v) for k, v in value.items() if not (nulls_are_absent and v is None))
    return "{" + ",".join(json.dumps(k) + ":" + canonical(v, nulls_are_absent) for k, v in members) + "}"


def steps(path):
    """a.b[*].c as ['a', 'b', '[*]', 'c']."""
    return path.replace("[*]", ".[*]").strip(".").split(".")


def exclude(value, path):
    """value without the place at path."""
    if isinstance(value, dict) and path[0] in value:
        if len(path) == 1:
            return {k: v for k, v in value.items() if k != path[0]}
        return {k: exclude(v, path[1:]) if k == path[0] else v for k, v in value.items()}
    if isinstance(value, list) and path[0] == "[*]":
        return [] if len(path) == 1 else [exclude(v, path[1:]) for v in value]
    return value


def include(value, paths):
    """Of value only the places at paths; containers on the way stay."""
    if any(not p for p in paths):
        return value
    if isinstance(value, dict):
        inner = {k: [p[1:] for p in paths if p[0] == k] for k in value}
        return {k: include(v, inner[k]) for k, v in value.items() if inner[k]}
    if isinstance(value, list):
        inner = [p[1:] for p in paths if p[0] == "[*]"]
        return [include(v, inner) for v in value] if inner else []
    return value


class Rules:
    """What counts of a value."""

    def __init__(self, exclude=(), include=(), nulls_are_absent=False):
        self.excluded = [steps(p) for p in exclude]
        self.included = [steps(p) for p in include]
        self.nulls_are_absent = nulls_are_absent

    def content(self, value):
        if value is None:
            return GONE
        if self.included:
            value = include(value, self.included)
        for path in self.excluded:
            value = exclude(value, path)
        return hashlib.sha256(canonical(value, self.nulls_are_absent).encode("utf-8", "surrogatepass")).digest()


# --- the judge -------------------------------------------------------------------------------------------------------


class Run:
    """A stretch of a key's history in which its content was one and the same."""

    def __init__(self, content, since, optional):
        self.content, self.since, self.until, self.optional = content, since, None, optional


class Event:
    def __init__(self, key, value, op="", id="", cursor="", partition=0, offset=0, reason=""):
        self.key, self.value, self.op, self.id, self.cursor = key, value, op, id, cursor
        self.reason, self.partition, self.offset = reason, partition, offset


class Judge:
    """Counts what is wrong with events, given the history. See internal/judge for what each option demands."""

    def __init__(self, rules, at_rest=True, deletions=False, passes=(), ops=False, cursors=False, examples=10):
        self.rules, self.at_rest, self.deletions = rules, at_rest, deletions
        self.passes = sorted(passes)
        self.ops, self.cursors, self.examples = ops, cursors, examples
        self.runs, self.heard, self.ids = {}, {}, set()
        self.counts = dict(events=0, missing=0, duplicate=0, out_of_order=0, wrong=0)
        self.said = []

    def state(self, key, at, value, optional):
        """Adds one state of the history; states of a key come in the order of time."""
        runs = self.runs.setdefault(key, [])
        content = self.rules.content(value)
        if runs and at < runs[-1].since:
            raise Unusable(f"history: key {key}: {at} stands behind {runs[-1].since}")
        if runs and runs[-1].content == content:
            runs[-1].optional = runs[-1].optional and optional
            return
        if runs:
            runs[-1].until = at
        runs.append(Run(content, at, optional))

    def event(self, event):
        """Adds one event; events of a key come in the order of their offsets."""
        self.counts["events"] += 1
        # Only the content is kept: the topics that this reads are larger than a small machine's memory.
        known = event.value is not None
        event.content, event.value = self.rules.content(event.value), known
        self.heard.setdefault(event.key, []).append(event)

    def verdict(self):
        """Judges every key and returns the last line."""
        for key in sorted(self.runs.keys() | self.heard.keys()):
            runs, events = self.runs.get(key, []), self.heard.get(key, [])
            accepted = self.follow(key, runs, events)
            missing = self.demanded(runs, accepted)
            last = len(runs) - 1
            if self.at_rest and runs and not runs[last].optional and last not in missing:
                end = runs[last].content
                excused = end == GONE and (not self.deletions or not events)
                if not excused and not (events and events[-1].content == end):
                    missing.append(last)
            for n in missing:
                self.say("missing", f"key {key}: its state of {runs[n].since} was not published")
        return " ".join(f"{name}={n}" for name, n in self.counts.items())

    def clean(self):
        return not any(n for name, n in self.counts.items() if name != "events")

    def say(self, what, text):
        self.counts[what] += 1
        if len(self.said) < self.examples:
            self.said.append(f"{what}: {text}")

    def follow(self, key, runs, events):
        """Walks through events beside runs and returns the contents of those that are states in order."""
        accepted, at = [], -1
        before, known, cursor = None, False, ""
        for e in events:
            where = f"key {key}: event {e.offset} of partition {e.partition}"
            later = next((n for n in range(at + 1, len(runs)) if runs[n].content == e.content), None)
            if before is not None and before == e.content and e.reason == "file" and not (e.id and e.id in self.ids):
                pass  # what it says beside the content is new: of a file of the record
            elif before is not None and before == e.content:
                self.say("duplicate", f"{where} says what the event before it said")
            elif e.id and e.id in self.ids:
                self.say("duplicate", f"{where} has the id {e.id}, which was there before")
            elif later is None and any(r.content == e.content for r in runs[: at + 1]):
                self.say("out_of_order", f"{where} is an older state than the event before it")
            elif later is None:
                self.say("wrong", f"{where} is no state that the key had")
            else:
                at = later
                accepted.append(e.content)
                if e.partition != events[0].partition:
                    self.say("wrong", f"{where}: the key was in partition {events[0].partition} before")
                elif self.ops and not fits(e, known):
                    self.say("wrong", f"{where}: operation {e.op!r}, value {e.value}, key known before {known}")
                elif self.cursors and backwards(cursor, e.cursor):
                    self.say("out_of_order", f"{where}: its cursor {e.cursor} is before {cursor}")
            self.ids.add(e.id)
            before, known, cursor = e.content, e.value, e.cursor or cursor
        return accepted

    def demanded(self, runs, events):
        """The runs that two passes covered and that the events, laid onto the runs in any way, cannot have shown."""
        if len(self.passes) < 2:
            return []
        first, at = [], -1
        for content in events:
            at = next(n for n in range(at + 1, len(runs)) if runs[n].content == content)
            first.append(at)
        final, at = [0] * len(events), len(runs)
        for i in reversed(range(len(events))):
            at = next(n for n in reversed(range(at)) if runs[n].content == events[i])
            final[i] = at
        missing = []
        for n, run in enumerate(runs):
            if run.optional or run.content == GONE or not self.covered(run):
                continue
            if not any(
                events[i] == run.content and first[i] <= n and (i + 1 == len(events) or final[i + 1] > n)
                for i in range(len(events))
            ):
                missing.append(n)
        return missing

    def covered(self, run):
        inside = [p for p in self.passes if p[0] >= run.since]
        return len(inside) >= 2 and (run.until is None or inside[1][1] <= run.until)


def fits(event, known):
    """Whether an operation can be, where the key was known before or not."""
    return {"c": event.value and not known, "r": event.value and not known, "u": event.value and known,
            "d": not event.value and known}.get(event.op, False)


def instant(text):
    """Microseconds since 1970 of an RFC 3339 text, or None. The API's granularity is the microsecond."""
    try:
        at = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    if at.tzinfo is None:
        return None
    return (at - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(microseconds=1)


def backwards(before, after):
    """Whether one cursor is before the other; only instants and whole numbers are compared."""
    a, b = instant(before), instant(after)
    if a is not None and b is not None:
        return b < a
    try:
        return int(after) < int(before)
    except ValueError:
        return False


# --- reading ---------------------------------------------------------------------------------------------------------


def read_history(where, judge):
    """Reads the simulator's history, from a URL or a file, one state a line."""
    source = urllib.request.urlopen(where, timeout=600) if "://" in where else open(where, "rb")
    with source:
        for n, line in enumerate(source, 1):
            if not line.strip():
                continue
            try:
                state = load(line)
                at = instant(state["at"])
                if at is None:
                    raise ValueError(f"{state['at']} is no instant")
                judge.state(state["key"], at, state["value"], bool(state.get("spoil")))
            except (KeyError, ValueError) as e:
                raise Unusable(f"history {where}: line {n}: {e!r}") from e


def events_of(brokers, topic, timeout, settings):
    """Yields the messages of a topic, from the beginning of every partition to its end, read-committed."""
    import confluent_kafka as kafka

    consumer = kafka.Consumer({
        "bootstrap.servers": brokers, "group.id": "tidemark-judge", "enable.auto.commit": False,
        "isolation.level": "read_committed", "enable.partition.eof": True, "auto.offset.reset": "error",
        "allow.auto.create.topics": False, **settings,
    })
    try:
        found = consumer.list_topics(topic, timeout=timeout).topics[topic]
        if found.error is not None:
            raise Unusable(f"topic {topic}: {found.error}")
        open_ends = set(found.partitions)
        consumer.assign([kafka.TopicPartition(topic, p, kafka.OFFSET_BEGINNING) for p in sorted(open_ends)])
        heard = time.monotonic()
        while open_ends:
            message = consumer.poll(1.0)
            if message is None:
                if time.monotonic() - heard > timeout:
                    raise Unusable(f"topic {topic}: for {timeout} s nothing came, and partitions {sorted(open_ends)} "
                                   "did not end: is a transaction left open, or a partition without a leader?")
                continue
            heard = time.monotonic()
            if message.error() is None:
                yield message
            elif message.error().code() == kafka.KafkaError._PARTITION_EOF:
                open_ends.discard(message.partition())
            elif message.error().fatal() or not message.error().retriable():
                raise Unusable(f"topic {topic}: {message.error()}")
    finally:
        consumer.close()


class Avro:
    """Decodes values in registry framing and undoes what the connector's Avro encoding does to JSON: fields that hold JSON
    text are parsed, and what _extra holds goes back to its place."""

    def __init__(self, url):
        self.url, self.schemas = url.rstrip("/"), {}

    def schema(self, id):
        if id not in self.schemas:
            import fastavro

            with urllib.request.urlopen(f"{self.url}/schemas/ids/{id}", timeout=60) as answer:
                raw = plain(json.loads(json.load(answer)["schema"]))
            names = {}
            collect(raw, "", names)
            self.schemas[id] = (raw, fastavro.parse_schema(json.loads(json.dumps(raw))), names)
        return self.schemas[id]

    def decode(self, value):
        import fastavro

        if len(value) < 5 or value[0] != 0:
            raise Unusable(f"a value of {len(value)} bytes without registry framing")
        raw, parsed, names = self.schema(struct.unpack(">I", value[1:5])[0])
        body = io.BytesIO(value[5:])
        native = fastavro.schemaless_reader(body, parsed, None)
        if body.read(1):
            raise Unusable("bytes after an Avro value")
        return restore(raw, native, names)


def plain(schema):
    """The schema without logical types: instants shall stay what was encoded."""
    if isinstance(schema, dict):
        return {k: plain(v) for k, v in schema.items() if k != "logicalType"}
    return [plain(s) for s in schema] if isinstance(schema, list) else schema


def collect(schema, namespace, names):
    """Notes the named types of a schema, by short and by full name."""
    if isinstance(schema, list):
        for branch in schema:
            collect(branch, namespace, names)
    elif isinstance(schema, dict):
        namespace = schema.get("namespace", namespace)
        if "name" in schema and isinstance(schema.get("type"), str):
            names[schema["name"]] = names[f"{namespace}.{schema['name']}"] = schema
        for field in schema.get("fields", ()):
            collect(field["type"], namespace, names)
        for place in ("items", "values", "type"):
            collect(schema.get(place), namespace, names)


def restore(schema, value, names):
    """The JSON value that was encoded as value."""
    if isinstance(schema, list):
        return None if value is None else restore(branch_of(schema, value, names), value, names)
    if isinstance(schema, str):
        return restore(names[schema], value, names) if schema in names else scalar(value)
    if isinstance(schema["type"], (list, dict)):
        return restore(schema["type"], value, names)
    if schema.get("tidemark") == "json":
        return load(value)
    if schema["type"] == "array":
        return [restore(schema["items"], v, names) for v in value]
    if schema["type"] == "map":
        return {k: restore(schema["values"], v, names) for k, v in value.items()}
    if schema["type"] == "record":
        record = {f["name"]: restore(f["type"], value[f["name"]], names) for f in schema["fields"]}
        extra = record.pop("_extra", None)
        return record if extra is None else patch(record, extra)
    return restore(schema["type"], value, names) if schema["type"] in names else scalar(value)


def scalar(value):
    return decimal.Decimal(repr(value)) if isinstance(value, float) else value


def branch_of(union, value, names):
    """The branch of a union that a value is of."""
    fitting = {bool: ("boolean",), int: ("int", "long", "float", "double"), float: ("double", "float"), str: ("string", "enum"),
               list: ("array",), dict: ("record", "map")}[type(value)]
    for branch in union:
        kind = branch
        while not isinstance(kind, str) or kind in names:
            kind = names[kind] if isinstance(kind, str) else kind["type"]
        if kind in fitting:
            return branch
    raise Unusable(f"no branch of {union} for {value!r}")


def patch(value, extra):
    """Puts what _extra holds back: unknown members, and numbers that their field could not hold exactly."""
    if isinstance(value, dict) and isinstance(extra, dict):
        return {**value, **{k: patch(value[k], v) if k in value else v for k, v in extra.items()}}
    if isinstance(value, list) and isinstance(extra, dict):
        return [patch(v, extra[str(i)]) if str(i) in extra else v for i, v in enumerate(value)]
    return extra


def read_topic(a, judge):
    avro = Avro(a.registry) if a.registry else None
    settings = dict(s.split("=", 1) for s in a.X)
    for m in events_of(a.brokers, a.topic, a.timeout, settings):
        value = m.value()
        if value is not None:
            value = avro.decode(value) if avro else load(value)
            if a.record_at:
                value = value[a.record_at]
        headers = {k: (v or b"").decode() for k, v in m.headers() or ()}
        judge.event(Event((m.key() or b"").decode(), value, headers.get("ce_op", ""), headers.get("ce_id", ""),
                          headers.get("ce_cursor", ""), m.partition(), m.offset(), headers.get("ce_reason", "")))


def judge_case(case):
    """Judges one of testdata/cases.json."""
    o = case["options"]
    rules = Rules(o.get("exclude", ()), (), o.get("nulls_are_absent", False))
    j = Judge(rules, o.get("at_rest", False), o.get("deletions", False), [tuple(p) for p in o.get("passes", ())],
              o.get("ops", False), o.get("cursors", False))
    for key, at, value, *spoil in case["history"]:
        j.state(key, at, value, bool(spoil))
    for offset, (key, value, *more) in enumerate(case["events"]):
        j.event(Event(key, value, offset=offset, **(more[0] if more else {})))
    return j.verdict()


def judge_cases(path):
    """Prints the verdict on every case of the file; what the judge in Go says of them is the test's to compare."""
    with open(path, encoding="utf-8") as file:
        for case in load(file.read()):
            print(judge_case(case))


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--brokers", help="host:port, separated by commas")
    p.add_argument("--topic", help="events topic")
    p.add_argument("--history", help="URL or file of the history: NDJSON of key, at, value")
    p.add_argument("--registry", help="schema registry's URL; without it values are JSON")
    p.add_argument("--record-at", help="member of the value that holds the record (VALUE_SHAPE=envelope: record)")
    p.add_argument("--exclude", default="", help="paths that do not count, separated by commas")
    p.add_argument("--include", default="", help="the only paths that count")
    p.add_argument("--moving", action="store_true", help="upstream is not at rest: the last states are not demanded")
    p.add_argument("--deletions", action="store_true", help="what is gone needs a tombstone")
    p.add_argument("--ops", action="store_true", help="check the operations (not for compacted topics)")
    p.add_argument("--cursors", action="store_true", help="check that ce_cursor of a key never goes back")
    p.add_argument("--examples", type=int, default=10, help="how many faults to print")
    p.add_argument("--timeout", type=float, default=120, help="seconds without a message after which to give up")
    p.add_argument("-X", action="append", default=[], metavar="NAME=VALUE", help="setting of librdkafka")
    p.add_argument("--cases", help="instead: judge the cases of a file")
    a = p.parse_args()
    if not a.cases and not (a.brokers and a.topic and a.history):
        p.error("--brokers, --topic and --history are needed")
    return a


def paths(text):
    return [p for p in text.split(",") if p]


def main():
    a = arguments()
    if a.cases:
        judge_cases(a.cases)
        return 0
    rules = Rules(paths(a.exclude), paths(a.include), nulls_are_absent=bool(a.registry))
    judge = Judge(rules, not a.moving, a.deletions, (), a.ops, a.cursors, a.examples)
    try:
        read_topic(a, judge)  # first the topic: a history that is read later holds all that the topic can hold
        read_history(a.history, judge)
    except (Unusable, OSError, ValueError) as e:
        print(f"consumer.py: {e}", file=sys.stderr)
        return 2
    line = judge.verdict()
    for text in judge.said:
        print(text)
    print(line)
    return 0 if judge.clean() else 1


if __name__ == "__main__":
    sys.exit(main())
