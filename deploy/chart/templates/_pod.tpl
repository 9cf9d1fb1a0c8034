{{/* A pod of the Ray cluster. ctx: the root; component: its name; its: resources, nodeSelector, tolerations, affinity. */}}
{{- define "tutti.rayPod" -}}
metadata:
  labels:
    {{- include "tutti.labels" . | nindent 4 }}
    tutti/ray-node: "true"
spec:
  # Kubernetes would add TUTTI_…_SERVICE_HOST for each Service, and the platform refuses variables that it does not know.
  enableServiceLinks: false
  {{- if ne .component "head" }}
  automountServiceAccountToken: false
  {{- end }}
  terminationGracePeriodSeconds: {{ .ctx.Values.podTerminationGracePeriodSeconds }}
  securityContext:
    {{- include "tutti.podSecurity" 10001 | nindent 4 }}
  {{- with .ctx.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- if eq .component "head" }}
  initContainers:
    - name: migrate
      image: {{ include "tutti.image" .ctx }}
      imagePullPolicy: {{ .ctx.Values.image.pullPolicy }}
      # The database may come up later than this pod, which KubeRay never restarts. And KubeRay makes the job that clears
      # Ray's state of a deleted cluster from the head's pod, old image and all: that one must not migrate.
      command:
        - sh
        - -c
        - |
          [ "$NODE_TYPE" = redis-cleanup ] && exit 0
          for _ in $(seq 24); do tutti db upgrade && exit 0; sleep 5; done
          exit 1
      env:
        - { name: NODE_TYPE, valueFrom: { fieldRef: { fieldPath: "metadata.labels['ray.io/node-type']" } } }
        {{- include "tutti.env" .ctx | nindent 8 }}
      resources:
        requests: { cpu: 100m, memory: 256Mi }
        limits: { memory: 512Mi }
      securityContext:
        {{- include "tutti.containerSecurity" . | nindent 8 }}
      volumeMounts:
        {{- include "tutti.mounts" .ctx | nindent 8 }}
  {{- end }}
  containers:
    - name: ray-{{ ternary "head" "worker" (eq .component "head") }}
      image: {{ include "tutti.image" .ctx }}
      imagePullPolicy: {{ .ctx.Values.image.pullPolicy }}
      env:
        {{- include "tutti.env" .ctx | nindent 8 }}
      ports:
        - { name: serve, containerPort: 8000 }
        {{- if eq .component "head" }}
        - { name: gcs-server, containerPort: 6379 }
        - { name: dashboard, containerPort: 8265 }
        - { name: client, containerPort: 10001 }
        {{- end }}
      resources:
        {{- toYaml .its.resources | nindent 8 }}
      securityContext:
        {{- include "tutti.containerSecurity" . | nindent 8 }}
      # KubeRay's own probes call wget, which the image has not.
      startupProbe:
        httpGet: { path: /api/healthz, port: 52365 }
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /api/healthz, port: 52365 }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        {{- if eq .component "head" }}
        httpGet: { path: /api/healthz, port: 52365 }
        {{- else }}
        # The proxy of this node: there is one while a replica runs here, so a pod without any is not ready.
        httpGet: { path: /-/healthz, port: serve }
        {{- end }}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      volumeMounts:
        {{- include "tutti.mounts" .ctx | nindent 8 }}
  {{- with .its.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .its.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  affinity:
    {{- if .its.affinity }}
    {{- toYaml .its.affinity | nindent 4 }}
    {{- else }}
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "tutti.selector" . | nindent 16 }}
    {{- end }}
  volumes:
    - { name: tmp, emptyDir: {} }
    - { name: home, emptyDir: {} }
    - { name: data, emptyDir: {} }
    {{- with .ctx.Values.checkpoints.claimName }}
    - name: checkpoints
      persistentVolumeClaim: { claimName: {{ . }}, readOnly: true }
    {{- end }}
{{- end -}}

{{/* All that a process may write to goes with the pod: Ray's session, its token, the compiled kernel. */}}
{{- define "tutti.mounts" -}}
- { name: tmp, mountPath: /tmp }
- { name: home, mountPath: /home/tutti }
- { name: data, mountPath: /data }
{{- if .Values.checkpoints.claimName }}
- { name: checkpoints, mountPath: {{ .Values.checkpoints.mountPath }}, readOnly: true }
{{- end }}
{{- end -}}
