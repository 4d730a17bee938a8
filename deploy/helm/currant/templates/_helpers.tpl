{{- define "currant.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "currant.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: broker
{{- end }}

{{- define "currant.labels" -}}
{{ include "currant.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "currant.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "currant.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "currant.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "currant.accessEnv" -}}
{{- if .Values.tls.existingSecret -}}
- { name: CURRANT_TLS__CERTIFICATE_FILE, value: /etc/currant/tls/tls.crt }
- { name: CURRANT_TLS__KEY_FILE, value: /etc/currant/tls/tls.key }
{{- if .Values.tls.clientCertificates }}
- { name: CURRANT_TLS__CLIENT_CA_FILE, value: /etc/currant/tls/ca.crt }
{{- end }}
{{- else if not .Values.access.insecure }}
{{- fail "set tls.existingSecret, or access.insecure to let in everybody who reaches the pods" }}
{{- end }}
{{- if .Values.access.insecure }}
- { name: CURRANT_ACCESS__INSECURE, value: "true" }
{{- else }}
- { name: CURRANT_ACCESS__REQUIRED, value: "true" }
{{- end }}
{{- end }}

{{- define "currant.scheme" -}}
{{ if .Values.tls.existingSecret }}HTTPS{{ else }}HTTP{{ end }}
{{- end }}

{{- define "currant.grpcProtocol" -}}
appProtocol: {{ if .Values.tls.existingSecret }}https{{ else }}kubernetes.io/h2c{{ end }}
{{- end }}

{{- define "currant.databaseEnv" -}}
{{- $secret := required "database.existingSecret is not set" .Values.database.existingSecret -}}
- name: CURRANT_DATABASE__URL
  valueFrom: { secretKeyRef: { name: {{ $secret }}, key: {{ .Values.database.key }} } }
{{- with .Values.database.listenKey }}
- name: CURRANT_DATABASE__LISTEN_URL
  valueFrom: { secretKeyRef: { name: {{ $secret }}, key: {{ . }} } }
{{- end }}
{{- end }}
