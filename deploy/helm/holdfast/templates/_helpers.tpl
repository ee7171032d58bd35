{{- define "holdfast.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "holdfast.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "holdfast.labels" -}}
{{ include "holdfast.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "holdfast.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "holdfast.name" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "holdfast.claim" -}}
{{- .Values.storage.existingClaim | default (include "holdfast.name" .) }}
{{- end }}

{{/* One process owns a directory; a second one would not start, or, on a volume for one node, not even be scheduled. */}}
{{- define "holdfast.check" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.storage.url) }}
{{- fail (printf "replicas is %d, but a directory has one owner: set storage.url to a bucket, or replicas to 1" (int .Values.replicas)) }}
{{- end }}
{{- end }}
