{{- define "trioduct.selector" -}}
app.kubernetes.io/name: trioduct
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "trioduct.labels" -}}
{{ include "trioduct.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "trioduct.secret" -}}
{{ .Values.secret.existing | default .Release.Name }}
{{- end }}
