{{/* What stands at a dotted path of a mapping, as JSON; empty where nothing does. Takes (list path mapping). */}}
{{- define "lehr.at" -}}
{{- $at := index . 1 }}
{{- range splitList "." (index . 0) }}
{{- if and (kindIs "map" $at) (hasKey $at .) }}{{ $at = get $at . }}{{ else }}{{ $at = "" }}{{ end }}
{{- end }}
{{- if ne (toString $at) "" }}{{ dict "is" $at | toJson }}{{ end }}
{{- end }}

{{/* What the Flyte that is installed lacks: JSON {found, lacks: [lines]}. Its ConfigMaps hold files of configuration, which
it merges; a setting is there if any file says it. */}}
{{- define "lehr.flyte.look" -}}
{{- $files := list }}
{{- $engine := false }}
{{- range (lookup "v1" "ConfigMap" .Values.flyte.namespace "").items }}
{{- range $name, $text := .data }}
{{- $file := ternary (fromYaml $text) (dict "Error" "") (hasSuffix ".yaml" $name) }}
{{- if not (hasKey $file "Error") }}{{ $files = append $files $file }}{{ end }}
{{- if hasKey $file "propeller" }}{{ $engine = true }}{{ end }}
{{- end }}
{{- end }}
{{- $lacks := list }}
{{- range $wanted := .Files.Get "files/flyte/needed.yaml" | fromYamlArray }}
{{- $ok := false }}
{{- $is := "not set" }}
{{- range $file := $files }}
{{- with include "lehr.at" (list $wanted.path $file) }}
{{- $value := (fromJson .).is }}
{{- $is = toString $value }}
{{- if hasKey $wanted "noneLike" }}
{{- range $one := $value }}{{ range $name, $text := $one }}
{{- if regexMatch $wanted.noneLike $name }}{{ $lacks = append $lacks (printf "%s holds %s: %s" $wanted.path $name $wanted.why) }}{{ end }}
{{- end }}{{ end }}
{{- else if hasKey $wanted "atLeast" }}{{ $ok = ge (float64 $value) (float64 $wanted.atLeast) }}
{{- else }}{{ $ok = eq $is (toString $wanted.equals | replace "PODTEMPLATE" $.Values.tasks.podTemplate.name) }}{{ end }}
{{- end }}
{{- end }}
{{- if not (or $ok (hasKey $wanted "noneLike")) }}{{ $lacks = append $lacks (printf "%s (%s): %s" $wanted.path $is $wanted.why) }}{{ end }}
{{- end }}
{{- dict "found" $engine "lacks" $lacks | toJson }}
{{- end }}
