{{/* How every component's pod is secured. Takes {root}. */}}
{{- define "segmind-gateway.podSecurity" -}}
automountServiceAccountToken: false
# A Service called "gateway" would otherwise inject GATEWAY_PORT=tcp://... into the settings.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
  {{- range $key, $id := .root.Values.podSecurityContext }}
  {{- if not (kindIs "invalid" $id) }}
  {{ $key }}: {{ int64 $id }}
  {{- end }}
  {{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The image and what a container may do. Takes {root}. */}}
{{- define "segmind-gateway.imageAndSecurity" -}}
image: {{ include "segmind-gateway.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* A container of the gateway: image, settings and secrets. Takes {root, settings, upstreamKey}: a map of environment
     variables, and whether this container calls the vendor: one that does not never sees the key. */}}
{{- define "segmind-gateway.container" -}}
{{ include "segmind-gateway.imageAndSecurity" . }}
env:
  {{- range $name, $value := .settings }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  - name: GATEWAY_LOG_LEVEL
    value: {{ .root.Values.logLevel }}
  {{- with .root.Values.valkey }}
  {{- if .enabled }}
  - name: VALKEY_PASSWORD
    valueFrom:
      secretKeyRef:
        name: {{ .existingSecret }}
        key: {{ .existingSecretKey }}
  - name: GATEWAY_REDIS_URL
    value: redis://:$(VALKEY_PASSWORD)@{{ include "segmind-gateway.fullname" $.root }}-valkey:6379/0
  {{- else }}
  - name: GATEWAY_REDIS_URL
    valueFrom:
      secretKeyRef:
        name: {{ $.root.Values.redis.existingSecret }}
        key: {{ $.root.Values.redis.existingSecretKey }}
  {{- end }}
  {{- end }}
  {{- if .upstreamKey }}
  - name: SEGMIND_API_KEY_FILE
    value: /run/secrets/upstream/{{ .root.Values.upstream.existingSecretKey }}
  {{- end }}
  {{- with .root.Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumeMounts:
  {{- if .upstreamKey }}
  - name: upstream-key
    mountPath: /run/secrets/upstream
    readOnly: true
  {{- end }}
  - name: data
    mountPath: /data
  - name: tmp
    mountPath: /tmp
  {{- with .root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* The volumes behind segmind-gateway.container. Takes {root, upstreamKey}. */}}
{{- define "segmind-gateway.volumes" -}}
{{- if .upstreamKey }}
- name: upstream-key
  secret:
    secretName: {{ .root.Values.upstream.existingSecret }}
    defaultMode: 0440
    items:
      - key: {{ .root.Values.upstream.existingSecretKey }}
        path: {{ .root.Values.upstream.existingSecretKey }}
{{- end }}
- name: data
  emptyDir: {sizeLimit: 64Mi}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Where the pods of a component may run. Takes {values}. */}}
{{- define "segmind-gateway.placement" -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" }}
{{- with get $.values $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The same, spread over zones and nodes. Takes {root, component, values}. */}}
{{- define "segmind-gateway.scheduling" -}}
{{ include "segmind-gateway.placement" . }}
{{- if .values.topologySpread.enabled }}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: {{ $.values.topologySpread.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "segmind-gateway.selectorLabels" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end }}
