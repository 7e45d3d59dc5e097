{{- define "lehr.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* At most 40 characters: the longest suffix has 23. */}}
{{- define "lehr.fullname" -}}
{{- $name := include "lehr.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "lehr.controller" -}}
{{- include "lehr.fullname" . }}-controller
{{- end }}

{{- define "lehr.controller.account" -}}
{{- default (include "lehr.controller" .) .Values.controller.serviceAccount.name -}}
{{- end }}

{{- define "lehr.controller.subject" -}}
{kind: ServiceAccount, name: {{ include "lehr.controller.account" . }}, namespace: {{ .Release.Namespace }}}
{{- end }}

{{- define "lehr.mlflow" -}}
{{- include "lehr.fullname" . }}-mlflow
{{- end }}

{{/* The Lease's name is fixed: `lehr nodes close-breaker` looks for it. */}}
{{- define "lehr.lease" -}}
lehr-controller
{{- end }}

{{- define "lehr.labels" -}}
{{- include "lehr.labels.and" (list . dict) -}}
{{- end }}

{{/* Labels of an object: ours, then those at hand, then everybody's; a key stands once. Takes (list root labels). */}}
{{- define "lehr.labels.and" -}}
{{- $root := index . 0 -}}
{{- $ours := dict "app.kubernetes.io/name" (include "lehr.name" $root) "app.kubernetes.io/instance" $root.Release.Name -}}
{{- $ours = set $ours "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $ours = set $ours "app.kubernetes.io/part-of" "lehr" -}}
{{- $ours = set $ours "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $ours = set $ours "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- mustMerge $ours (index . 1) $root.Values.commonLabels | toYaml -}}
{{- end }}

{{/* Of one component's pods: these never change, a Deployment's selector cannot. Takes (list component root). */}}
{{- define "lehr.selector" -}}
{{- $root := index . 1 -}}
app.kubernetes.io/name: {{ include "lehr.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 0 }}
{{- end }}

{{/* Labels of a component's pods; those of the selector win. Takes (list component root labels). */}}
{{- define "lehr.pod.labels" -}}
{{- $root := index . 1 -}}
{{- $ours := include "lehr.selector" . | fromYaml -}}
{{- mustMerge $ours (dict "app.kubernetes.io/part-of" "lehr") (index . 2) $root.Values.commonLabels | toYaml -}}
{{- end }}

{{/* Takes an `image` of the values and a default tag. */}}
{{- define "lehr.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default (index . 1) $image.tag }}
{{- end -}}
{{- end }}

{{- define "lehr.image.own" -}}
{{- include "lehr.image" (list .Values.image .Chart.AppVersion) -}}
{{- end }}

{{- define "lehr.pod.security" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "lehr.container.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where a pod may run: nodeSelector, tolerations and affinity of the values at hand. */}}
{{- define "lehr.placement" -}}
{{- $found := dict -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" -}}
{{- with get $ $key }}{{ $_ := set $found $key . }}{{ end -}}
{{- end -}}
{{- with $found }}{{ toYaml . }}{{ end -}}
{{- end }}

{{- define "lehr.training.names" -}}
{{- $names := list }}
{{- range .Values.training.namespaces }}{{ $names = append $names .name }}{{ end }}
{{- $names | uniq | toJson -}}
{{- end }}

{{- define "lehr.mlflow.url" -}}
{{- if .Values.mlflow.enabled -}}
http://{{ include "lehr.mlflow" . }}.{{ .Release.Namespace }}.svc:{{ .Values.mlflow.port }}
{{- else -}}
{{ .Values.mlflow.externalUrl }}
{{- end -}}
{{- end }}

{{/* `true` where MLflow needs a volume: its database or its artifacts are nowhere else. */}}
{{- define "lehr.mlflow.volume" -}}
{{- if not (and .Values.mlflow.database.existingSecret .Values.mlflow.artifacts.destination) }}true{{ end -}}
{{- end }}

{{/* Variables of tasks' main container. */}}
{{- define "lehr.tasks.environment" -}}
{{ include "lehr.store.environment" (list .Values.store.existingSecret .) }}
{{- with .Values.store.endpointUrl }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- with include "lehr.mlflow.url" . }}
- {name: MLFLOW_TRACKING_URI, value: {{ . | quote }}}
{{- end }}
{{- range $name, $value := .Values.tasks.environment }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{/* Region and keys of an object store as variables, from an existing Secret. Takes its name and root. */}}
{{- define "lehr.store.environment" -}}
{{- $root := index . 1 -}}
{{- with $root.Values.store.region }}
- {name: AWS_REGION, value: {{ . | quote }}}
{{- end }}
{{- with index . 0 }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ . }}, key: {{ $root.Values.store.accessKeyIdKey }}}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ . }}, key: {{ $root.Values.store.secretAccessKeyKey }}}}
{{- end }}
{{- end }}

{{/* Rules of NetworkPolicies. */}}
{{- define "lehr.egress.dns" -}}
- to:
    - namespaceSelector:
        matchLabels: {{- toYaml .Values.dns.namespaceLabels | nindent 10 }}
      podSelector:
        matchLabels: {{- toYaml .Values.dns.podLabels | nindent 10 }}
  ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
{{- end }}

{{/* Takes cidrs, what is excepted of them, and ports. An exception counts for the addresses of its own family. */}}
{{- define "lehr.egress.cidrs" -}}
- to:
    {{- $except := index . 1 }}
    {{- range $cidr := index . 0 }}
    - ipBlock:
        cidr: {{ $cidr | quote }}
        {{- $of := list }}
        {{- range $except }}{{ if eq (contains ":" .) (contains ":" $cidr) }}{{ $of = append $of . }}{{ end }}{{ end }}
        {{- with $of }}
        except: {{- toYaml . | nindent 10 }}
        {{- end }}
    {{- end }}
  ports:
    {{- range index . 2 }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}

{{- define "lehr.ingress.prometheus" -}}
- namespaceSelector:
    matchLabels: {{- toYaml .Values.monitoring.namespaceLabels | nindent 6 }}
{{- end }}
