{{/* Refuses values that contradict one another, with what to do about it. */}}
{{- define "segmind-gateway.checks" -}}
{{- $serve := .Values.serve -}}
{{- if not .Values.upstream.existingSecret -}}
{{- fail (printf "upstream.existingSecret is not set: name the Secret that holds the Segmind API key (kubectl create secret generic segmind-api-key --from-literal=%s=...)" .Values.upstream.existingSecretKey) -}}
{{- end -}}
{{- if and .Values.valkey.enabled .Values.redis.existingSecret -}}
{{- fail "valkey.enabled is true and redis.existingSecret is set: choose the bundled server or your own Redis" -}}
{{- end -}}
{{- if and .Values.valkey.enabled (not .Values.valkey.existingSecret) -}}
{{- fail (printf "valkey.existingSecret is not set: name the Secret that holds its password (kubectl create secret generic gateway-valkey --from-literal=%s=$(openssl rand -hex 32))" .Values.valkey.existingSecretKey) -}}
{{- end -}}
{{- if not (or .Values.valkey.enabled .Values.redis.existingSecret) -}}
{{- fail (printf "redis.existingSecret is not set: name the Secret that holds the Redis URL (kubectl create secret generic gateway-redis --from-literal=%s=rediss://...)" .Values.redis.existingSecretKey) -}}
{{- end -}}
{{- if and $serve.autoscaling.enabled (gt (int $serve.autoscaling.minReplicas) (int $serve.autoscaling.maxReplicas)) -}}
{{- fail (printf "serve.autoscaling.minReplicas (%v) is above maxReplicas (%v)" $serve.autoscaling.minReplicas $serve.autoscaling.maxReplicas) -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled is true but ingress.hosts is empty: name at least one host" -}}
{{- end -}}
{{- if regexMatch "SG_[0-9a-fA-F]{16}|sgw_[a-z0-9-]+_[A-Za-z0-9]+_" (toJson .Values.config) -}}
{{- fail "config holds an API key: it is rendered into a ConfigMap, so keys must not stand in it" -}}
{{- end -}}
{{- $managed := list "GATEWAY_REDIS_URL" "VALKEY_PASSWORD" "SEGMIND_API_KEY" "SEGMIND_API_KEY_FILE" "GATEWAY_HOST" "GATEWAY_PORT" "GATEWAY_OPS_PORT" "GATEWAY_DRAIN_SECONDS" "GATEWAY_PUBLIC_URL" "GATEWAY_LOG_LEVEL" -}}
{{- range .Values.extraEnv -}}
{{- if has .name $managed -}}
{{- fail (printf "extraEnv sets %s, which the chart sets from its own values: use those" .name) -}}
{{- end -}}
{{- if and .value (regexMatch "(KEY|TOKEN|SECRET|PASSWORD)$" .name) -}}
{{- fail (printf "extraEnv sets %s to a literal: use valueFrom.secretKeyRef" .name) -}}
{{- end -}}
{{- end -}}
{{- end }}
