{{- define "canary-mcp.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 52 characters, so that -engine and what Kubernetes adds still fit into 63. */}}
{{- define "canary-mcp.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "canary-mcp.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "canary-mcp.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "canary-mcp.labels" -}}
app.kubernetes.io/name: {{ include "canary-mcp.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* [context, component] */}}
{{- define "canary-mcp.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "canary-mcp.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "canary-mcp.leaseNamespace" -}}
{{- default .Release.Namespace .Values.leaseNamespace -}}
{{- end -}}

{{/* What runs, as a list: front (the tools, and the engine too in all-in-one) and engine. */}}
{{- define "canary-mcp.components" -}}
{{- if eq .Values.mode "rights" -}}[]
{{- else if and (eq .Values.mode "split") (not .Values.readOnly) -}}["front", "engine"]
{{- else -}}["front"]
{{- end -}}
{{- end -}}

{{/* What the engine leaves out: observe, routes, or nothing. */}}
{{- define "canary-mcp.dryRun" -}}
{{- $mode := toString .Values.dryRun -}}
{{- if eq $mode "true" -}}observe{{- else if ne $mode "false" -}}{{ $mode }}{{- end -}}
{{- end -}}

{{/* Whose rights a component has: a key of files/rights.yaml. [context, component] */}}
{{- define "canary-mcp.rightsOf" -}}
{{- $root := index . 0 -}}
{{- $observes := eq (include "canary-mcp.dryRun" $root) "observe" -}}
{{- if $root.Values.readOnly -}}read-only
{{- else if and $observes (or (eq (index . 1) "engine") (eq $root.Values.mode "all-in-one")) -}}observing
{{- else if $observes -}}read-only
{{- else if eq (index . 1) "engine" -}}engine
{{- else if eq $root.Values.mode "split" -}}front
{{- else -}}all-in-one
{{- end -}}
{{- end -}}

{{/* [context, component] */}}
{{- define "canary-mcp.componentName" -}}
{{- $name := include "canary-mcp.fullname" (index . 0) -}}
{{- if eq (index . 1) "engine" -}}{{ $name }}-engine{{- else -}}{{ $name }}{{- end -}}
{{- end -}}

{{/* [context, component] */}}
{{- define "canary-mcp.serviceAccount" -}}
{{- $root := index . 0 -}}
{{- $name := default (include "canary-mcp.fullname" $root) $root.Values.serviceAccount.name -}}
{{- if eq (index . 1) "engine" -}}{{ $name }}-engine{{- else -}}{{ $name }}{{- end -}}
{{- end -}}

{{- define "canary-mcp.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}
{{- else -}}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "canary-mcp.tokensSecret" -}}
{{- default (printf "%s-tokens" (include "canary-mcp.fullname" .)) .Values.auth.existingSecret -}}
{{- end -}}

{{/* Host headers that the tools answer to, each on a line. */}}
{{- define "canary-mcp.hosts" -}}
{{- $name := include "canary-mcp.fullname" . -}}
{{- $hosts := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s.svc.cluster.local" $name .Release.Namespace) -}}
{{- if .Values.ingress.enabled -}}{{- $hosts = concat $hosts .Values.ingress.hosts -}}{{- end -}}
{{- if .Values.httpRoute.enabled -}}{{- $hosts = concat $hosts .Values.httpRoute.hosts -}}{{- end -}}
{{- join "\n" (uniq (concat $hosts .Values.allowedHosts)) -}}
{{- end -}}

{{/* What cannot be meant. values.schema.json judges each value; this judges them together. */}}
{{- define "canary-mcp.check" -}}
{{- with .Values -}}
{{- if and (eq .auth.mode "none") (not .auth.insecure) (ne .mode "rights") -}}
{{- fail "auth.mode is none: whoever reaches the port can roll out. Use static-tokens, or add auth.insecure=true where only trusted clients can reach it" -}}
{{- end -}}
{{- if and .auth.existingSecret .auth.tokens -}}
{{- fail "auth.existingSecret and auth.tokens: give one of them, the tokens of your own Secret or the lines of one that the chart makes" -}}
{{- end -}}
{{- if and (eq .rbac.scope "namespaced") (not .rbac.namespaces) -}}
{{- fail "rbac.scope is namespaced: name the namespaces of the Canaries in rbac.namespaces" -}}
{{- end -}}
{{- if and (eq .rbac.scope "cluster") .rbac.namespaces -}}
{{- fail "rbac.namespaces has no meaning with rbac.scope=cluster: set rbac.scope=namespaced" -}}
{{- end -}}
{{- if and (not .serviceAccount.create) (not .serviceAccount.name) -}}
{{- fail "serviceAccount.create is off: name the account in serviceAccount.name" -}}
{{- end -}}
{{- $scaler := .front.autoscaling -}}
{{- if and (ne $scaler.kind "none") (ne .mode "split") -}}
{{- fail "front.autoscaling is for mode=split: in all-in-one the pods run the engine, which must not come and go with the callers" -}}
{{- end -}}
{{- if gt (int $scaler.minReplicas) (int $scaler.maxReplicas) -}}
{{- fail (printf "front.autoscaling: minReplicas %d is more than maxReplicas %d" (int $scaler.minReplicas) (int $scaler.maxReplicas)) -}}
{{- end -}}
{{- if and (eq $scaler.kind "hpa") (lt (int $scaler.minReplicas) 1) -}}
{{- fail "front.autoscaling.minReplicas: an HPA keeps at least 1; only keda scales to 0" -}}
{{- end -}}
{{- if eq $scaler.kind "keda" -}}
{{- include "canary-mcp.checkTriggers" . -}}
{{- end -}}
{{- if and .ingress.enabled (not .ingress.hosts) -}}
{{- fail "ingress.enabled: name the hosts in ingress.hosts; the server answers to no other Host header" -}}
{{- end -}}
{{- if and .httpRoute.enabled (or (not .httpRoute.hosts) (not .httpRoute.parentRefs)) -}}
{{- fail "httpRoute.enabled: name httpRoute.parentRefs and httpRoute.hosts; the server answers to no other Host header" -}}
{{- end -}}
{{- if and .readOnly .clusters.lead -}}
{{- fail "clusters.lead has no meaning with readOnly: nothing is led" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Triggers that see a call while no pod is there, so that the first one wakes the front. Those that read what pods tell (cpu, memory), or what is
scraped from them (prometheus and its like), see nothing once the last pod has gone: it never comes back.
*/}}
{{- define "canary-mcp.checkTriggers" -}}
{{- $triggers := .front.autoscaling.triggers -}}
{{- if not $triggers -}}
{{- fail "front.autoscaling.kind is keda: name at least one trigger in front.autoscaling.triggers" -}}
{{- end -}}
{{- if eq (int .front.autoscaling.minReplicas) 0 -}}
{{- $outside := false -}}
{{- range $triggers -}}
{{- if not (has .type (list "cpu" "memory" "prometheus" "metrics-api" "kubernetes-workload" "datadog" "new-relic" "dynatrace" "graphite" "influxdb" "loki")) -}}
{{- $outside = true -}}
{{- end -}}
{{- end -}}
{{- if not $outside -}}
{{- fail "front.autoscaling.minReplicas is 0, and each trigger measures the pods themselves: with the last pod its measure goes, and nothing wakes the front again. Add a trigger from outside (the HTTP add-on's external-push, a queue, cron), or keep minReplicas at 1" -}}
{{- end -}}
{{- end -}}
{{- end -}}
