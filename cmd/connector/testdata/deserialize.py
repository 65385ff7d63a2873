#!/usr/bin/env python3
"""Decodes the Avro values of a topic with Confluent's own deserializer and prints them, one line of JSON an event.

    deserialize.py BROKERS TOPIC REGISTRY
"""

import json
import sys

import confluent_kafka as kafka
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext


def main(brokers, topic, registry):
    decode = AvroDeserializer(SchemaRegistryClient({"url": registry}))
    consumer = kafka.Consumer({
        "bootstrap.servers": brokers, "group.id": "deserialize", "enable.auto.commit": False, "isolation.level": "read_committed",
        "enable.partition.eof": True, "auto.offset.reset": "error", "allow.auto.create.topics": False,
    })
    left = set(consumer.list_topics(topic, timeout=60).topics[topic].partitions)
    consumer.assign([kafka.TopicPartition(topic, p, kafka.OFFSET_BEGINNING) for p in left])
    while left:
        message = consumer.poll(120)
        if message is None:
            sys.exit(f"nothing came for two minutes, and partitions {sorted(left)} did not end")
        if message.error() is None:
            value = decode(message.value(), SerializationContext(topic, MessageField.VALUE))
            print(json.dumps({"key": message.key().decode(), "value": value}))
        elif message.error().code() == kafka.KafkaError._PARTITION_EOF:
            left.discard(message.partition())
        else:
            sys.exit(str(message.error()))
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
