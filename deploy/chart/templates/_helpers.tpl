{{- define "tutti.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "tutti.secret" -}}
{{- required "existingSecret: name the Secret with the keys that values.yaml lists" .Values.existingSecret -}}
{{- end -}}

{{/* Labels of one part. ctx: the chart's root; component: its name. */}}
{{- define "tutti.selector" -}}
app.kubernetes.io/instance: {{ .ctx.Release.Name }}
app.kubernetes.io/part-of: tutti
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "tutti.labels" -}}
{{ include "tutti.selector" . }}
app.kubernetes.io/version: {{ .ctx.Chart.AppVersion | quote }}
helm.sh/chart: {{ .ctx.Chart.Name }}-{{ .ctx.Chart.Version }}
{{- end -}}

{{/* What all pods of the Ray cluster have in common, whatever their pool. */}}
{{- define "tutti.raySelector" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: tutti
tutti/ray-node: "true"
{{- end -}}

{{- define "tutti.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "tutti.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "tutti.fromSecret" -}}
- name: {{ .key }}
  valueFrom: { secretKeyRef: { name: {{ .secret }}, key: {{ .key }}{{ if .optional }}, optional: true{{ end }} } }
{{- end -}}

{{/* Environment of every process of the platform. A variable that refers to another one stands after it. */}}
{{- define "tutti.env" -}}
{{- $secret := include "tutti.secret" . -}}
- { name: TUTTI_ENVIRONMENT, value: production }
- { name: TUTTI_STORAGE_URL, value: {{ required "storage.url: where audio is kept, e.g. s3://BUCKET/PREFIX" .Values.storage.url | quote }} }
- { name: TUTTI_METRICS_HOST, value: "0.0.0.0" }
{{- range list "TUTTI_SECRET_KEY" "TUTTI_MASTER_KEYS" "TUTTI_METRICS_TOKEN" }}
{{ include "tutti.fromSecret" (dict "secret" $secret "key" .) }}
{{- end }}
{{- range list "TUTTI_PREVIOUS_SECRET_KEYS" "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "AZURE_STORAGE_ACCOUNT_KEY" }}
{{ include "tutti.fromSecret" (dict "secret" $secret "key" . "optional" true) }}
{{- end }}
{{- if .Values.valkey.bundled }}
{{ include "tutti.fromSecret" (dict "secret" $secret "key" "VALKEY_PASSWORD") }}
- { name: TUTTI_REDIS_URL, value: "redis://:$(VALKEY_PASSWORD)@{{ .Release.Name }}-valkey:6379/0" }
{{- else }}
{{ include "tutti.fromSecret" (dict "secret" $secret "key" "TUTTI_REDIS_URL") }}
{{- end }}
{{- if .Values.postgresql.bundled }}
{{ include "tutti.fromSecret" (dict "secret" $secret "key" "POSTGRES_PASSWORD") }}
- { name: TUTTI_DATABASE_URL, value: "postgresql://tutti:$(POSTGRES_PASSWORD)@{{ .Release.Name }}-postgresql/tutti" }
{{- else }}
{{ include "tutti.fromSecret" (dict "secret" $secret "key" "TUTTI_DATABASE_URL") }}
{{- end }}
{{- if not (hasKey .Values.settings "TUTTI_DEFAULT_MODEL") }}
- { name: TUTTI_DEFAULT_MODEL, value: {{ include "tutti.defaultModel" . }} }
{{- end }}
{{- range $name, $value := merge (dict) .Values.settings .Values.storage.env }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
# As deployments/local_ray.py sets them where it starts Ray itself; the image has the others.
- { name: RAY_worker_niceness, value: "0" }
- { name: RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S, value: "30" }
- { name: RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S, value: "1" }
{{- end -}}
