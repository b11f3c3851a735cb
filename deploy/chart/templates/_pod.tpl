{{/* The command lines. Each argument is one line of YAML. */}}
{{- define "canary-mcp.args.front" -}}
- serve
- --listen=0.0.0.0:8080
{{- if or (ne .Values.mode "all-in-one") .Values.readOnly }}
- --engine=off
{{- end }}
{{- if eq .Values.auth.mode "none" }}
- --insecure
{{- else }}
- --auth=static-tokens
- --auth-file=/etc/canary-mcp/auth/tokens
{{- end }}
{{- range splitList "\n" (include "canary-mcp.hosts" .) }}
- {{ printf "--allowed-host=%s" . | quote }}
{{- end }}
{{- end -}}

{{- define "canary-mcp.args.engine" -}}
- engine
- --listen=0.0.0.0:8081
{{- end -}}

{{/* Where the clusters come from and how a Canary is judged: the same for the tools and for the engine. */}}
{{- define "canary-mcp.args.common" -}}
{{- with .Values -}}
- {{ printf "--lease-namespace=%s" (include "canary-mcp.leaseNamespace" $) | quote }}
- {{ printf "--mesh-provider=%s" .meshProvider | quote }}
- {{ printf "--metrics-server=%s" .metricsServer | quote }}
- {{ printf "--in-cluster-name=%s" .clusters.inCluster.name | quote }}
{{- if .clusters.kubeconfig.existingSecret }}
{{- range .clusters.kubeconfig.keys }}
- {{ printf "--kubeconfig=/etc/canary-mcp/kubeconfig/%s" . | quote }}
{{- end }}
{{- range .clusters.kubeconfig.contexts }}
- {{ printf "--context=%s" . | quote }}
{{- end }}
{{- end }}
{{- if .clusters.argocd.enabled }}
- {{ printf "--argocd-namespace=%s" .clusters.argocd.namespace | quote }}
{{- end }}
{{- range .clusters.lead }}
- {{ printf "--lead=%s" . | quote }}
{{- end }}
{{- if .clusters.settings }}
- --clusters-file=/etc/canary-mcp/clusters/clusters.yaml
{{- end }}
{{- with .selectorLabels }}
- {{ printf "--selector-labels=%s" (join "," .) | quote }}
{{- end }}
{{- with .includeLabelPrefix }}
- {{ printf "--include-label-prefix=%s" (join "," .) | quote }}
{{- end }}
{{- with include "canary-mcp.dryRun" $ }}
- --dry-run={{ . }}
{{- end }}
{{- if .maxConcurrent }}
- {{ printf "--max-concurrent=%d" (int .maxConcurrent) | quote }}
{{- end }}
{{- if .maxConcurrentPerNamespace }}
- {{ printf "--max-concurrent-per-namespace=%d" (int .maxConcurrentPerNamespace) | quote }}
{{- end }}
{{- range .rbac.namespaces }}
- {{ printf "--namespace=%s" . | quote }}
{{- end }}
{{- range .allowHosts }}
- {{ printf "--allow-hosts=%s" . | quote }}
{{- end }}
{{- range .extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* [context, component] */}}
{{- define "canary-mcp.mounts" -}}
{{- $root := index . 0 -}}
{{- if and (eq (index . 1) "front") (eq $root.Values.auth.mode "static-tokens") }}
- {name: auth, mountPath: /etc/canary-mcp/auth, readOnly: true}
{{- end }}
{{- if $root.Values.clusters.kubeconfig.existingSecret }}
- {name: kubeconfig, mountPath: /etc/canary-mcp/kubeconfig, readOnly: true}
{{- end }}
{{- if $root.Values.clusters.settings }}
- {name: clusters, mountPath: /etc/canary-mcp/clusters, readOnly: true}
{{- end }}
{{- with $root.Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* [context, component] */}}
{{- define "canary-mcp.volumes" -}}
{{- $root := index . 0 -}}
{{- if and (eq (index . 1) "front") (eq $root.Values.auth.mode "static-tokens") }}
- name: auth
  secret:
    secretName: {{ include "canary-mcp.tokensSecret" $root }}
    # 0440: for the pod's group, 65532.
    defaultMode: 288
{{- end }}
{{- with $root.Values.clusters.kubeconfig.existingSecret }}
- name: kubeconfig
  secret:
    secretName: {{ . }}
    # 0440: for the pod's group, 65532.
    defaultMode: 288
{{- end }}
{{- if $root.Values.clusters.settings }}
- name: clusters
  configMap:
    name: {{ include "canary-mcp.fullname" $root }}-clusters
{{- end }}
{{- with $root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
