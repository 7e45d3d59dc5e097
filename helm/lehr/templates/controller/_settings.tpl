{{/* The controller's settings: infra/controller/settings.py has the keys, and refuses others. */}}
{{- define "lehr.settings" -}}
{{- $c := .Values.controller -}}
{{- $n := .Values.nodes -}}
{{- $observed := concat (default list $n.policy.observe_only_checks) $n.checksOff | uniq -}}
{{- $policy := $n.policy -}}
{{- if $observed }}{{ $policy = merge (dict "observe_only_checks" $observed) $n.policy }}{{ end -}}
namespaces: {{ include "lehr.training.names" . }}
system_namespace: {{ .Release.Namespace }}
lease: {{ include "lehr.lease" . }}
image: {{ include "lehr.image.own" . | quote }}
image_pull_secret: {{ .Values.image.pullSecret | quote }}
gpu_resource: {{ $n.gpuResource | quote }}
pair_resources: {{ $n.pairResources | toJson }}
allowed_images: {{ $n.allowedImages | toJson }}
preflight_variables: {{ $n.preflightVariables | toJson }}
dry_run: {{ $c.dryRun }}
{{- if $c.webhook.existingSecret }}
webhook_url_file: /etc/lehr-webhook/{{ $c.webhook.key }}
{{- end }}
metrics_address: {{ $c.metrics.address | quote }}
metrics_port: {{ $c.metrics.port }}
lease_seconds: {{ $c.leaseSeconds }}
renew_seconds: {{ $c.renewSeconds }}
resync_seconds: {{ $c.resyncSeconds }}
relist_seconds: {{ $c.relistSeconds }}
policy: {{- if $policy }}{{ toYaml $policy | nindent 2 }}{{ else }} {}{{ end }}
{{- end }}
