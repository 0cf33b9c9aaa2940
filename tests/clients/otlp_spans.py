"""Reads requests of OTLP over HTTP, as OpenTelemetry's own Python package has their format, and prints their spans as JSON."""

import json
import sys

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def values(attributes):
    return {a.key: a.value.int_value or a.value.string_value for a in attributes}


spans = []
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        request = ExportTraceServiceRequest.FromString(file.read())
    for of_process in request.resource_spans:
        about = values(of_process.resource.attributes)
        for scope in of_process.scope_spans:
            for span in scope.spans:
                spans.append(
                    {
                        "name": span.name,
                        "trace": span.trace_id.hex(),
                        "id": span.span_id.hex(),
                        "parent": span.parent_span_id.hex(),
                        "kind": span.kind,
                        "from": span.start_time_unix_nano,
                        "to": span.end_time_unix_nano,
                        "error": span.status.message,
                        "attributes": values(span.attributes),
                        "about": about,
                    }
                )
json.dump(spans, sys.stdout)
