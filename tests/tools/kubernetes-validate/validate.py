"""validate VERSION...: judges objects on stdin (JSON, one a line) by Kubernetes' own schemas. Exit code 1 and a line for each fault."""

import functools
import json
import sys

import kubernetes_validate as judge
from kubernetes_validate import utils

# Each schema is read once, not once for each object.
utils.schema_contents = functools.cache(utils.schema_contents)

faults = 0
for line in sys.stdin:
    thing = json.loads(line)
    for version in sys.argv[1:]:
        try:
            judge.validate(thing, version, strict=True)
            continue
        except judge.ValidationError as error:
            why = f"{'.'.join(map(str, error.path))}: {error.message}"
        except judge.SchemaNotFoundError as error:
            why = error.message
        faults += 1
        print(f"{thing['kind']} {thing['metadata']['name']}, Kubernetes {version}: {why}")
sys.exit(1 if faults else 0)
