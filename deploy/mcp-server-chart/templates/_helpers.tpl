{{- define "mcp-server.name" -}}
{{- .Values.fullnameOverride | default .Release.Name -}}
{{- end }}

{{- define "mcp-server.labels" -}}
app: {{ include "mcp-server.name" . }}
app.kubernetes.io/part-of: {{ include "mcp-server.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "mcp-server.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end -}}
{{- end }}

{{- define "mcp-server.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "mcp-server.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{/* What a probe asks: the path, or whether the port is open. */}}
{{- define "mcp-server.asks" -}}
{{- if .Values.probes.path -}}
httpGet:
  path: {{ .Values.probes.path }}
  port: {{ .Values.service.portName }}
{{- else -}}
tcpSocket:
  port: {{ .Values.service.portName }}
{{- end -}}
{{- end }}

{{- define "mcp-server.templates-namespace" -}}
{{- .Values.flagger.metricTemplates.namespace | default .Release.Namespace -}}
{{- end }}

{{/* "true" where a trigger's value lives outside of the pods, so that it can wake a server of no pods. */}}
{{- define "mcp-server.wakes" -}}
{{- $queues := list "cron" "external" "external-push" "kafka" "apache-kafka" "rabbitmq" "redis" "redis-streams" "redis-cluster"
  "redis-cluster-streams" "redis-sentinel" "redis-sentinel-streams" "nats-jetstream" "pulsar" "activemq" "artemis-queue" "ibmmq"
  "solace-event-queue" "aws-sqs-queue" "aws-kinesis-stream" "azure-queue" "azure-servicebus" "azure-eventhub" "gcp-pubsub" "gcp-cloudtasks"
  "postgresql" "mysql" "mssql" "mongodb" "beanstalkd" -}}
{{- if or .wakesFromZero (has .type $queues) -}}true{{- end -}}
{{- end }}

{{/* One value of a trigger's metadata for one workload. */}}
{{- define "mcp-server.for" -}}
{{- tpl .text (dict "workload" .workload "namespace" .root.Release.Namespace "Template" .root.Template) -}}
{{- end }}

{{/* What no schema can say. */}}
{{- define "mcp-server.check" -}}
{{- $v := .Values -}}
{{- $name := include "mcp-server.name" . -}}
{{- if gt (len $name) 46 -}}
{{- fail (printf "the name %q has more than 46 characters: KEDA's keda-hpa-NAME-primary would have more than 63; set fullnameOverride" $name) -}}
{{- end -}}
{{- if and (not (kindIs "invalid" $v.replicaCount)) (or $v.autoscaling.enabled $v.flagger.enabled) -}}
{{- fail "replicaCount: the replicas are the scaler's or the Canary's; take it out and set autoscaling.minReplicas and maxReplicas" -}}
{{- end -}}
{{- if $v.autoscaling.enabled -}}
{{- $s := $v.autoscaling -}}
{{- if gt (int $s.minReplicas) (int $s.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas %d is more than autoscaling.maxReplicas %d" (int $s.minReplicas) (int $s.maxReplicas)) -}}
{{- end -}}
{{- $names := list -}}
{{- $wakes := list -}}
{{- range $s.triggers -}}
{{- if has .name $names -}}
{{- fail (printf "autoscaling.triggers: two are named %q" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- if include "mcp-server.wakes" . -}}
{{- $wakes = append $wakes .name -}}
{{- end -}}
{{- end -}}
{{- if eq (int $s.minReplicas) 0 -}}
{{- if $v.flagger.enabled -}}
{{- fail "autoscaling.minReplicas is 0 and flagger.enabled is true: a primary at zero has no pod that could take the traffic back from a canary; set it to 1 or more" -}}
{{- end -}}
{{- if not $wakes -}}
{{- fail (printf "autoscaling.minReplicas is 0 and every trigger (%s) measures the pods themselves: with no pods there is no value, and the server never wakes; add a trigger that lives outside of them (a queue, cron, the HTTP add-on's external-push), say wakesFromZero: true of one that does, or set it to 1" (join ", " $names)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $v.flagger.enabled -}}
{{- $a := $v.flagger.analysis -}}
{{- if not (or $v.flagger.skipAnalysis $a.successRate.enabled $a.mcpSuccessRate.enabled $a.mcpLatency.enabled $a.metrics) -}}
{{- fail "flagger.analysis has no check: any version whose pods are ready would be promoted; enable one, or set flagger.skipAnalysis to say that this is meant" -}}
{{- end -}}
{{- $c := $v.flagger.canaryReplicas -}}
{{- if gt (int $c.minReplicas) (int ($c.maxReplicas | default $v.autoscaling.maxReplicas)) -}}
{{- fail "flagger.canaryReplicas: minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- end -}}
{{- end }}
