{{/* The password reaches the server by standard input, so that it is in no list of processes. */}}
{{- define "tutti.valkeyContainer" -}}
name: valkey
image: {{ .ctx.Values.valkey.image }}
command:
  - sh
  - -c
  - >-
    printf 'requirepass %s\n{{ .lines }}'
    "${PASSWORD:?}" | exec valkey-server -
env:
  - name: PASSWORD
    valueFrom: { secretKeyRef: { name: {{ include "tutti.secret" .ctx }}, key: {{ .key }} } }
ports:
  - { name: valkey, containerPort: 6379 }
resources:
  {{- toYaml .resources | nindent 2 }}
securityContext:
  {{- include "tutti.containerSecurity" . | nindent 2 }}
readinessProbe:
  exec: { command: [sh, -c, 'REDISCLI_AUTH="$PASSWORD" valkey-cli ping | grep -q PONG'] }
  periodSeconds: 5
  timeoutSeconds: 3
livenessProbe:
  exec: { command: [sh, -c, 'REDISCLI_AUTH="$PASSWORD" valkey-cli ping | grep -q PONG'] }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
volumeMounts:
  - { name: data, mountPath: /data }
{{- end -}}

{{- define "tutti.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ .ctx.Release.Name }}-{{ .component }}
  labels:
    {{- include "tutti.labels" . | nindent 4 }}
spec:
  selector:
    {{- include "tutti.selector" . | nindent 4 }}
  ports:
    - { name: {{ .port }}, port: {{ .number }}, targetPort: {{ .port }} }
{{- end -}}
